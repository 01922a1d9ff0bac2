"""Kubernetes service accounts, against a fake of the two calls that the verifier makes, over TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.adapters.identity.conftest import NOW, HandClock, by_hand
from tests.certificates import Authority, server_context

from regate_adapters.identity.kubernetes import AccountRules, KubernetesApi, KubernetesVerifier
from regate_orchestrator.errors import IdentityUnavailable, Unauthenticated

RELEASE = asyncio.Event()
TOKEN = by_hand({"alg": "RS256"}, {"iss": "https://cluster", "exp": NOW + 20})
USER: dict[str, Any] = {
    "username": "system:serviceaccount:team-a:crawler",
    "uid": "u-1",
    "groups": ["system:serviceaccounts", "system:serviceaccounts:team-a", "system:authenticated"],
    "extra": {
        "authentication.kubernetes.io/pod-name": ["crawler-7"],
        "authentication.kubernetes.io/credential-id": ["JTI=7f3a"],
    },
}
GOOD: dict[str, Any] = {"authenticated": True, "audiences": ["regate"], "user": USER}


@dataclass
class Cluster:
    """A fake of a cluster's API: it reviews tokens and shows namespaces, or does whatever it is told."""

    directory: Path
    authority: Authority
    url: str = ""
    status: dict[str, Any] = field(default_factory=lambda: dict(GOOD))
    labels: dict[str, str] = field(default_factory=lambda: {"tenant": "acme"})
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    reviewed: list[Any] = field(default_factory=list)

    @property
    def token_file(self) -> Path:
        return self.directory / "token"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path, request.headers["Authorization"]))
        if self.answer is not None:
            return await self.answer(request)
        if request.method == "POST":
            self.reviewed.append((await request.json())["spec"])
            return web.json_response({"kind": "TokenReview", "status": self.status}, status=201)
        if request.path.endswith("/gone"):
            return web.json_response({"kind": "Status", "code": 404}, status=404)
        return web.json_response({"kind": "Namespace", "metadata": {"labels": self.labels}})

    def verifier(self, clock: HandClock, **changes: Any) -> KubernetesVerifier:
        api = KubernetesApi(self.url, self.authority.ca, self.token_file, changes.pop("deadline_s", 60))
        given = {"audience": "regate", "tenant": None, "tenant_label": "tenant", "cache_s": 60}
        return KubernetesVerifier(api, AccountRules(**(given | changes)), clock=clock)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    authority = Authority(tmp_path)
    cluster = Cluster(tmp_path, authority)
    cluster.token_file.write_text("own-token\n")
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", cluster.handle)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context(authority.server()))
    await site.start()
    cluster.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    yield cluster
    RELEASE.set()
    await runner.cleanup()
    RELEASE.clear()


async def test_service_account_becomes_claims_by_two_calls(cluster: Cluster, clock: HandClock) -> None:
    async with cluster.verifier(clock) as verifier:
        found = await verifier.verify(TOKEN)
    assert found == {
        "sub": "system:serviceaccount:team-a:crawler",
        "aud": "regate",
        "namespace": "team-a",
        "service_account": "crawler",
        "groups": USER["groups"],
        "uid": "u-1",
        "pod": "crawler-7",
        "jti": "7f3a",
        "tenant": "acme",
        "exp": NOW + 20,
    }
    assert cluster.reviewed == [{"token": TOKEN, "audiences": ["regate"]}]
    assert cluster.asked == [
        ("POST", "/apis/authentication.k8s.io/v1/tokenreviews", "Bearer own-token"),
        ("GET", "/api/v1/namespaces/team-a", "Bearer own-token"),
    ]


async def test_fixed_tenant_needs_one_call_and_a_namespace_without_the_label_has_none(
    cluster: Cluster, clock: HandClock
) -> None:
    cluster.labels = {}
    async with (
        cluster.verifier(clock, tenant="globex", tenant_label=None) as fixed,
        cluster.verifier(clock) as labelled,
    ):
        first, calls = await fixed.verify(TOKEN), len(cluster.asked)
        assert (first["tenant"], calls, "tenant" in await labelled.verify(TOKEN)) == ("globex", 1, False)


REFUSED: dict[str, dict[str, Any]] = {
    "not authenticated": {"authenticated": False, "user": {}},
    "not authenticated, with a user": GOOD | {"authenticated": False},
    "authenticated as a text": GOOD | {"authenticated": "true"},
    "authenticated as a number": GOOD | {"authenticated": 1},
    "an error": GOOD | {"error": "token lookup failed"},
    "another audience": GOOD | {"audiences": ["https://kubernetes.default.svc"]},
    "no audience": {name: value for name, value in GOOD.items() if name != "audiences"},
    "audiences as a text": GOOD | {"audiences": "regate"},
    "a person": GOOD | {"user": {"username": "alice"}},
    "a node": GOOD | {"user": {"username": "system:node:one"}},
    "an account with a path": GOOD | {"user": {"username": "system:serviceaccount:a/../b:c"}},
    "an account in no namespace": GOOD | {"user": {"username": "system:serviceaccount::c"}},
    "an account of a namespace that is gone": GOOD | {"user": {"username": "system:serviceaccount:gone:c"}},
    "nothing": {},
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_the_cluster_does_not_confirm_is_refused_and_asked_again(
    cluster: Cluster, clock: HandClock, case: str
) -> None:
    cluster.status = REFUSED[case]
    async with cluster.verifier(clock) as verifier:
        with pytest.raises(Unauthenticated):
            await verifier.verify(TOKEN)
        cluster.status = dict(GOOD)
        assert (await verifier.verify(TOKEN))["tenant"] == "acme"


def answering(**response: Any) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(**response)

    return answer


async def hanging(_: web.Request) -> web.StreamResponse:
    await RELEASE.wait()
    return web.Response()


JSON = "application/json"
REVIEW = b'{"kind": "TokenReview", "status": {"authenticated": true, "audiences": ["regate"]}}'
FAILING: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
    "forbidden": answering(status=403, body=b'{"kind": "Status"}', content_type=JSON),
    "its own token is refused": answering(status=401, body=b'{"kind": "Status"}', content_type=JSON),
    "an error of its own": answering(status=500),
    "too many requests": answering(status=429),
    "HTML": answering(body=b"<html>login</html>", content_type="text/html"),
    "a redirect": answering(status=302, headers={"Location": "/elsewhere"}),
    "no JSON": answering(body=b"{", content_type=JSON),
    "a review without a user": answering(status=201, body=REVIEW, content_type=JSON),
    "another object": answering(body=REVIEW.replace(b"TokenReview", b"Pod"), content_type=JSON),
    "too much": answering(body=b" " * 1_100_000, content_type=JSON),
    "nothing, ever": hanging,
}


@pytest.mark.parametrize("case", FAILING)
async def test_api_that_gives_no_usable_answer_is_unavailable(
    cluster: Cluster, clock: HandClock, case: str
) -> None:
    cluster.answer = FAILING[case]
    async with cluster.verifier(clock, deadline_s=0.2 if case == "nothing, ever" else 60) as verifier:
        with pytest.raises(IdentityUnavailable):
            await verifier.verify(TOKEN)


async def test_api_of_another_authority_is_told_nothing(cluster: Cluster, clock: HandClock) -> None:
    cluster.authority = Authority(cluster.directory, "another")
    async with cluster.verifier(clock) as verifier:
        with pytest.raises(IdentityUnavailable):
            await verifier.verify(TOKEN)
    assert cluster.asked == []


async def test_verdict_is_remembered_for_a_while_and_never_past_the_tokens_expiry(
    cluster: Cluster, clock: HandClock
) -> None:
    async with cluster.verifier(clock, cache_s=10) as verifier:
        reviews = []
        for later in (0, 9.9, 10, 19.9, 20):
            clock.now = NOW + later
            await asyncio.gather(*(verifier.verify(TOKEN) for _ in range(3)))
            reviews.append(len(cluster.reviewed))
    # At the same moment several may ask; what holds until 20 was asked at 10.
    assert (reviews[0] == reviews[1] < reviews[2] == reviews[3] < reviews[4], reviews[0] <= 3) == (True, True)


async def test_its_own_token_is_read_again_when_it_is_rotated(cluster: Cluster, clock: HandClock) -> None:
    async with cluster.verifier(clock, cache_s=0) as verifier:
        await verifier.verify(TOKEN)
        rotated = cluster.directory / "next"
        rotated.write_text("rotated-token")
        rotated.replace(cluster.token_file)
        await verifier.verify(TOKEN)
        cluster.token_file.unlink()
        with pytest.raises(IdentityUnavailable):
            await verifier.verify(TOKEN)
    assert [own for method, _, own in cluster.asked if method == "POST"] == [
        "Bearer own-token",
        "Bearer rotated-token",
    ]


async def test_examination_says_whether_tokens_are_reviewed(cluster: Cluster, clock: HandClock) -> None:
    cluster.status = {"authenticated": False, "error": "[invalid bearer token]"}
    async with cluster.verifier(clock) as verifier:
        assert await verifier.examine() == f"{cluster.url} reviews tokens"
