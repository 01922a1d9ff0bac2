"""Providers of identities through the whole gateway, over TLS that it terminates itself: certificates,
tokens, both at once, and service accounts reviewed by a fake of the cluster's API.
"""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import jwt
import openai
import pytest
from aiohttp import web
from tests.certificates import Authority, Issued, client_context
from tests.deployments import only_on
from tests.patience import PATIENT_SECONDS
from websockets.asyncio.client import connect

from regate_adapters.audit.reading import read
from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running

pytestmark = only_on("embedded")

SECRET = "s" * 32
SPIFFE = "spiffe://prod.example/ns/team-a/sa/crawler"
ACCOUNT = "system:serviceaccount:team-a:crawler"
CUSTOM = """# METADATA
# title: Our principals
# description: A caller has the certificate that it presented.
# scope: package
# schemas:
#   - input: schema.input.authn
package regate.custom.authn

# METADATA
# title: Attributes
# description: The certificate, beside whatever vouched for the caller.
attrs := {"certificate": input.peer.sha256, "by": input.provider.name}
"""
FORGED = ("X-Forwarded-Client-Cert", "X-Client-Cert", "Ssl-Client-Cert", "Client-Cert", "X-SSL-Client-Verify")


class Cluster:
    """A fake of the call with which tokens are reviewed: it knows one, unless it is told to fail."""

    def __init__(self) -> None:
        self.url = ""
        self.fails = False

    async def review(self, request: web.Request) -> web.Response:
        if self.fails:
            return web.json_response({"kind": "Status"}, status=500)
        known = (await request.json())["spec"]["token"] == "pods-own-token"
        user = {"username": ACCOUNT, "groups": ["g"]}
        status = {"authenticated": True, "audiences": ["regate"], "user": user}
        return web.json_response(
            {"kind": "TokenReview", "status": status if known else {"error": "invalid"}}, status=201
        )


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    cluster = Cluster()
    app = web.Application()
    app.router.add_post("/apis/authentication.k8s.io/v1/tokenreviews", cluster.review)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    cluster.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield cluster
    await runner.cleanup()


class Gateway:
    """A gateway behind TLS, and clients with certificates of its authority and others."""

    def __init__(self, url: str, settings: Settings, authority: Authority, stack: AsyncExitStack) -> None:
        self.url = url
        self.settings = settings
        self.authority = authority
        self._stack = stack

    async def http(self, issued: Issued | None = None) -> httpx.AsyncClient:
        client = httpx.AsyncClient(verify=client_context(self.authority, issued), timeout=PATIENT_SECONDS)
        return await self._stack.enter_async_context(client)

    async def status(self, client: httpx.AsyncClient, token: str | None = None, **headers: str) -> int:
        given = headers if token is None else {**headers, "Authorization": f"Bearer {token}"}
        answer = await client.post(f"{self.url}/v1/conversations", json={}, headers=given)
        return answer.status_code

    def callers(self) -> list[tuple[str, str, str, Any]]:
        """Who was let in, in order: subject, provider, and the two attributes of our rule."""
        found = [record for record in read(self.settings.audit.path) if "authentication" in record]
        told = [
            (
                record["subject"],
                record["authentication"]["kind"],
                record["asked_as"]["attrs"].get("by", ""),
                record["asked_as"]["attrs"].get("certificate"),
            )
            for record in found
            if record["kind"] == "decisions"
        ]
        return list(dict.fromkeys(told))


@pytest.fixture
async def gateway(
    configure: Callable[..., Settings],
    policies: Path,
    tmp_path: Path,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Gateway]:
    monkeypatch.setenv("SECRET", SECRET)
    (policies / "custom/authn").mkdir(parents=True)
    (policies / "custom/authn/authn.rego").write_text(CUSTOM)
    (tmp_path / "token").write_text("own")
    authority = Authority(tmp_path)
    server = authority.server()
    tls = {"cert": server.cert, "key": server.key, "client_ca": authority.ca}
    listen = {"port": 0, "tls": tls | {"client_certificates": "optional"}}
    issuer = {"issuer": "idp", "audience": "regate", "algorithms": ["HS256"], "secret_env": "SECRET"}
    accounts = {"audience": "regate", "tenant": "acme", "api_server": cluster.url, "cache_s": 0}
    providers = [
        {"name": "staff", "kind": "jwt", **issuer},
        {"name": "mesh", "kind": "mtls", "tenant": "acme"},
        {"name": "pods", "kind": "kubernetes", "token_file": tmp_path / "token", **accounts},
    ]
    settings = configure(listen=listen, auth={"providers": providers})
    app, _ = gateway_app(settings)
    async with Running(app, settings.listen) as running, AsyncExitStack() as stack:
        yield Gateway(running.url, settings, authority, stack)


def token(**claims: Any) -> str:
    given = {"iss": "idp", "aud": "regate", "exp": 4_000_000_000, "sub": "alice", "tenant": "acme"}
    return jwt.encode(given | claims, SECRET, algorithm="HS256")


async def test_certificate_is_the_identity_where_there_is_no_token_and_shown_beside_one(
    gateway: Gateway,
) -> None:
    crawler, other = gateway.authority.client("crawler", uris=[SPIFFE]), gateway.authority.client("other")
    bare, with_crawler, with_other = [await gateway.http(one) for one in (None, crawler, other)]
    print_of = {one: _fingerprint(one) for one in (crawler, other)}
    bound = token(sub="bob", cnf={"x5t#S256": print_of[crawler][1]})

    assert [
        await gateway.status(bare),
        await gateway.status(with_crawler),
        await gateway.status(with_other),  # without a SPIFFE id
        await gateway.status(with_crawler, token()),
        await gateway.status(with_crawler, "not.a.token"),
        await gateway.status(bare, bound),
        await gateway.status(with_other, bound),
        await gateway.status(with_crawler, bound),
        await gateway.status(bare, **dict.fromkeys(FORGED, crawler.pem.replace("\n", "%0A"))),
    ] == [401, 200, 401, 200, 401, 401, 401, 200, 401]
    hexadecimal = print_of[crawler][0]
    assert gateway.callers() == [
        (SPIFFE, "mtls", "mesh", hexadecimal),
        ("alice", "jwt", "staff", hexadecimal),
        ("bob", "jwt", "staff", hexadecimal),
    ]


async def test_certificates_that_the_authority_did_not_issue_to_clients_do_not_connect(
    gateway: Gateway, tmp_path: Path
) -> None:
    (tmp_path / "theirs").mkdir()
    theirs = Authority(tmp_path / "theirs", "authority").client("crawler", uris=[SPIFFE])
    for issued in (theirs, gateway.authority.server("another")):
        client = await gateway.http(issued)
        with pytest.raises((httpx.TransportError, ssl.SSLError)):
            await gateway.status(client)
    assert gateway.callers() == []


async def test_official_client_and_websockets_need_no_token_beside_a_certificate(gateway: Gateway) -> None:
    context = client_context(gateway.authority, gateway.authority.client("crawler", uris=[SPIFFE]))
    client = openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1",
        api_key="none",
        http_client=openai.DefaultAsyncHttpxClient(verify=context),
    )
    async with client:
        await client.conversations.create(extra_headers={"Authorization": openai.Omit()})
    address = gateway.url.replace("https", "wss") + "/v1/responses"
    async with connect(address, ssl=context, proxy=None) as socket:
        await socket.send(json.dumps({"type": "response.create", "model": "small", "input": "Hello"}))
        while json.loads(await socket.recv())["type"] != "response.completed":
            pass
    assert {(subject, kind) for subject, kind, _, _ in gateway.callers()} == {(SPIFFE, "mtls")}


async def test_service_account_calls_with_the_official_client_and_an_outage_is_503(
    gateway: Gateway, cluster: Cluster
) -> None:
    http = openai.DefaultAsyncHttpxClient(verify=client_context(gateway.authority))
    client = openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key="pods-own-token", max_retries=0, http_client=http
    )
    async with client:
        made = await client.conversations.create()
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="another-token").conversations.create()
        cluster.fails = True
        with pytest.raises(openai.InternalServerError) as refused:
            await client.conversations.retrieve(made.id)
    assert (refused.value.status_code, refused.value.code) == (503, "identity_unavailable")
    (record, *_) = [one for one in read(gateway.settings.audit.path) if one.get("subject") == ACCOUNT]
    assert (record["asked_as"]["namespaces"], record["asked_as"]["attrs"]["groups"]) == (["team-a"], ["g"])


def _fingerprint(issued: Issued) -> tuple[str, str]:
    """In hexadecimal digits, and as tokens have it."""
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(issued.pem)).digest()
    return digest.hex(), base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
