"""`regate doctor` before real neighbours: a line for each thing that is configured, and an exit code
that says whether all can be used.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.adapters.audit.collector import running_collector
from tests.adapters.tracing.trace_collector import running_trace_collector
from tests.postgres import Postgres

from regate_adapters.testing.ports import free_port
from regate_gateway.cli.doctor import Diagnosis, diagnoses, report
from regate_gateway.config.settings import Settings

JWKS = {
    "keys": [
        {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            "kid": "one",
            "alg": "EdDSA",
            "use": "sig",
        }
    ]
}


@pytest.fixture
async def neighbour() -> AsyncIterator[str]:
    """A backend that lists two models for whoever has the key, makes vectors, publishes verification
    keys, and is no Chroma server.
    """

    async def models(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Bearer right":
            return web.json_response({"error": {"message": "who are you? wrong"}}, status=401)
        return web.json_response(
            {"object": "list", "data": [{"id": name, "object": "model"} for name in ("small", "large")]}
        )

    async def embeddings(request: web.Request) -> web.Response:
        return web.json_response({"data": [{"index": 0, "embedding": [0.6, 0.8, 0.0]}]})

    async def moderations(request: web.Request) -> web.Response:
        scored = {"categories": {"violence": False}, "category_scores": {"violence": 0.1}}
        return web.json_response({"results": [scored for _ in (await request.json())["input"]]})

    async def keys(request: web.Request) -> web.Response:
        return web.json_response(JWKS)

    async def configuration(request: web.Request) -> web.Response:
        place = f"http://{request.host}"
        return web.json_response({"issuer": f"{place}/realm", "jwks_uri": f"{place}/keys"})

    async def review(request: web.Request) -> web.Response:
        return web.json_response({"kind": "TokenReview", "status": {"error": "invalid"}}, status=201)

    app = web.Application()
    app.router.add_get("/realm/.well-known/openid-configuration", configuration)
    app.router.add_post("/apis/authentication.k8s.io/v1/tokenreviews", review)
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/embeddings", embeddings)
    app.router.add_post("/v1/moderations", moderations)
    app.router.add_get("/keys", keys)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def settings(tmp_path: Path, **values: Any) -> Settings:
    return Settings.model_validate({"data_dir": tmp_path / "data"} | values)


def upstream(url: str, **more: Any) -> dict[str, Any]:
    return {"name": "local", "base_url": f"{url}/v1", "api_key_env": "KEY", **more}


def moderation(url: str) -> dict[str, Any]:
    entry = {"name": "mod", "kind": "moderation", "model": "m", "steps": ["input"], "base_url": f"{url}/v1"}
    return {"providers": [entry]}


def jwt(url: str) -> dict[str, Any]:
    return {"jwt": {"issuer": "i", "audience": "a", "algorithms": ["EdDSA"], "jwks_url": url}}


def providers(url: str, token_file: Path) -> dict[str, Any]:
    """An issuer whose keys are named, one whose keys are found, API keys, and a cluster."""
    token_file.write_text("own")
    common = {"kind": "jwt", "audience": "a", "algorithms": ["EdDSA"]}
    cluster = {"kind": "kubernetes", "audience": "a", "tenant": "acme", "api_server": url}
    return {
        "providers": [
            {"name": "named", "issuer": "i", "jwks_url": f"{url}/keys", **common},
            {"name": "found", "issuer": f"{url}/realm", "discovery": True, **common},
            {"name": "keys", "kind": "api_key"},
            {"name": "pods", "token_file": token_file, **cluster},
        ]
    }


async def told(settings: Settings) -> dict[str, Diagnosis]:
    return {diagnosis.name: diagnosis async for diagnosis in diagnoses(settings)}


async def test_everything_that_answers_is_told_and_nothing_is_made(
    tmp_path: Path, neighbour: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KEY", "right")
    embeddings = {"kind": "upstream", "upstream": "local", "model": "small"}
    configured = settings(
        tmp_path,
        upstreams=[upstream(neighbour, models=["small", "huge"])],
        auth=providers(neighbour, tmp_path / "token"),
        embeddings=embeddings,
        guards=moderation(neighbour),
    )
    code = await report(configured, as_json=True)
    result = json.loads(capsys.readouterr().out)

    assert (
        code,
        result["ok"],
        [one["name"] for one in result["diagnoses"] if not one["ok"]],
        [path.name for path in tmp_path.iterdir()],
    ) == (
        0,
        True,
        [],
        ["token"],
    )
    says = {one["name"]: one["says"] for one in result["diagnoses"]}
    assert says["upstreams.local"] == "lists 2 models; not among them: huge"
    assert says["auth.providers.named.jwks_url"].endswith("/keys gave 1 usable keys")
    assert says["auth.providers.found.discovery"].endswith("/realm gave 1 usable keys")
    assert says["auth.providers.pods.api_server"] == f"{neighbour} reviews tokens"
    assert says["embeddings (small)"] == "vectors of 3 dimensions"
    assert says["guards.providers.mod"] == "looks at texts; of 'Hello' it says violence"
    assert says["opa"].startswith("OPA ")


async def test_everything_that_does_not_answer_is_told_by_its_setting_and_the_exit_code_is_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("KEY", "right")
    monkeypatch.setenv("DATABASE", f"postgresql://u:swordfish@127.0.0.1:{nobody.rpartition(':')[2]}/d")
    configured = settings(
        tmp_path,
        upstreams=[upstream(nobody)],
        auth=jwt(f"{nobody}/keys"),
        opa={"mode": "remote", "url": nobody},
        state={"url_env": "DATABASE"},
        vector={
            "stores": {
                "main": {"kind": "chroma_server", "url": nobody},
                "other": {"kind": "pgvector", "url_env": "DATABASE"},
            }
        },
        guards=moderation(nobody),
    )
    code = await report(configured, as_json=False)
    printed = capsys.readouterr().out
    failed = [line.split()[1] for line in printed.splitlines() if line.startswith("FAIL")]

    assert (code, failed) == (
        1,
        [
            "upstreams.local",
            "auth.jwt.jwks_url",
            "opa",
            "state",
            "vector.stores.main",
            "vector.stores.other",
            "guards.providers.mod",
        ],
    )
    assert (
        printed.count("state.url_env (DATABASE)"),
        "Connection refused" in printed,
        "swordfish" in printed,
    ) == (1, True, False)


async def test_what_answers_and_cannot_be_used_fails(
    tmp_path: Path, neighbour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "wrong")
    configured = settings(
        tmp_path,
        upstreams=[upstream(neighbour)],
        auth=jwt(f"{neighbour}/v1/models"),
        vector={"stores": {"main": {"kind": "chroma_server", "url": neighbour}}},
    )
    found = await told(configured)

    assert [name for name, one in found.items() if not one.ok] == [
        "upstreams.local",
        "auth.jwt.jwks_url",
        "vector.stores.main",
    ]
    assert ("401" in found["upstreams.local"].says, "wrong" in found["upstreams.local"].says) == (True, False)


async def test_policies_that_may_not_serve_fail(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    found = await told(settings(tmp_path, opa={"bundle": tmp_path / "policies"}))
    assert not found["opa"].ok


async def test_collector_of_traces_is_asked_and_gets_nothing(tmp_path: Path) -> None:
    async with running_trace_collector() as collector:
        taking = await told(settings(tmp_path, telemetry={"traces": {"endpoint": collector.url}}))
        collector.status = 401
        refusing = await told(settings(tmp_path, telemetry={"traces": {"endpoint": collector.url}}))

    assert [(one["telemetry.traces"].ok, one["telemetry.traces"].says) for one in (taking, refusing)] == [
        (True, "takes traces"),
        (False, "the collector does not take a batch of spans"),
    ]
    assert (len(collector.bodies), collector.spans) == (2, [])


async def test_destinations_of_the_audit_log_are_asked_and_get_nothing(
    tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_URL", postgres.url())
    async with running_collector() as collector:
        exports = [
            {"name": "siem", "kind": "otlp", "url": collector.url},
            {"name": "away", "kind": "otlp", "url": f"http://127.0.0.1:{free_port()}/v1/logs"},
            {"name": "warehouse", "kind": "postgres", "url_env": "AUDIT_URL"},
        ]
        found = await told(settings(tmp_path, audit={"export": exports}))

    assert {one["name"]: found[f"audit.export.{one['name']}"].says for one in exports} == {
        "siem": "takes logs",
        "away": "ClientConnectorError",
        "warehouse": "the table is not there yet, and will be made",
    }
    assert collector.log_records == []
