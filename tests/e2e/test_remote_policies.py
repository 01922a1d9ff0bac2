"""A gateway before an OPA that is not its own: ready, and answering, only while what that OPA runs is
what a managed one would be given.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from tests.opa_sidecar import Sidecar, sidecar

from regate_adapters.identity.jwt import mint_development_token
from regate_gateway.auth.authentication import DEVELOPMENT_AUDIENCE, DEVELOPMENT_ISSUER, shared_secret
from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running
from regate_gateway.workbench.directory import shipped_policies

STORE: Final = "custom/store/store.rego"
WIDE: Final = {
    STORE: """package regate.custom.store

deny if _near(input.store.visibility)

_near(x) := true if x == "tenant"

_near(x) := false if x == "attributes"
"""
}
NARROW: Final = {STORE: 'package regate.custom.store\n\ndeny if input.store.visibility == "tenant"\n'}
NO_THRESHOLDS: Final[dict[str, Any]] = {
    step: {"scores": {}, "labels": {}}
    for step in ("input", "chunk", "tool_arguments", "tool_result", "output")
}
ASKING: Final = {"chunk/redact.rego": "package regate.chunk\n\nredact := [`x`]\n"}
TOKEN: Final = "the-gateways-own"


@dataclass
class Serving:
    """A gateway, and a client of one of its users."""

    url: str
    http: httpx.AsyncClient

    async def ready(self) -> dict[str, Any]:
        answer = await self.http.get(f"{self.url}/readyz")
        return {"code": answer.status_code, **answer.json()}

    async def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the readiness once it is so; how long that takes is the machine's."""
        async with asyncio.timeout(120):
            while not condition(found := await self.ready()):
                await asyncio.sleep(0.05)
        return found

    async def until_answered(self, answers: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(120):
            while not await answers():
                await asyncio.sleep(0.05)


@asynccontextmanager
async def gateway(folder: Path, opa: Sidecar, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serving]:
    connection: dict[str, Any] = {"mode": "remote", "url": opa.url, "timeout_ms": 20_000}
    if opa.token is not None:
        monkeypatch.setenv("REGATE_TEST_SIDECAR_TOKEN", opa.token)
        connection["token_env"] = "REGATE_TEST_SIDECAR_TOKEN"
    values = {
        "data_dir": folder / "data",
        "listen": {"port": 0},
        "opa": connection,
        "vector": {"stores": {"main": {"kind": "memory"}}},
        "telemetry": {"access_log": False},
    }
    settings = Settings.model_validate(values)
    app, _ = gateway_app(settings)
    async with Running(app, settings.listen) as server:
        secret = shared_secret(settings).reveal().encode()
        names = {
            "issuer": DEVELOPMENT_ISSUER,
            "audience": DEVELOPMENT_AUDIENCE,
            "subject": "alice",
            "tenant": "acme",
        }
        headers = {"Authorization": f"Bearer {mint_development_token(secret, ttl_s=3600, **names)}"}
        async with httpx.AsyncClient(headers=headers, timeout=90) as http:
            yield Serving(server.url, http)


def policy_is_fine(found: dict[str, Any]) -> bool:
    return found["checks"]["policy"] == "ok" and "policy_problem" not in found


def policy_is_refused(found: dict[str, Any]) -> bool:
    return found["checks"]["policy"] != "ok" and "policy_problem" in found


async def test_policies_outside_of_the_fragment_are_never_served_and_rule_and_line_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sidecar(tmp_path / "opa", WIDE) as opa:
        async with gateway(tmp_path, opa, monkeypatch) as serving:
            refused = await serving.until(policy_is_refused)
            listed = await serving.http.get(f"{serving.url}/v1/vector_stores")
            opa.put(NARROW, "r2")
            mended = await serving.until(policy_is_fine)
            made = await serving.http.post(f"{serving.url}/v1/vector_stores", json={"name": "hers"})
            again = await serving.http.get(f"{serving.url}/v1/vector_stores")
            opa.put(WIDE, "r3")

            async def refused_by_itself() -> bool:
                answer = await serving.http.get(f"{serving.url}/v1/vector_stores")
                assert (answer.status_code, answer.text) == (200, again.text) or answer.status_code == 503
                return answer.status_code == 503

            await serving.until_answered(refused_by_itself)  # whoever looks at readiness or not
            broken = await serving.until(policy_is_refused)

    assert (refused["code"], refused["status"], listed.status_code) == (503, "not ready", 503)
    assert listed.json()["error"]["code"] == "policy_unavailable"
    for found in (refused, broken):
        assert f"{STORE}:3: no-functions: _near is given input.store" in found["policy_problem"]
    assert (made.status_code, len(again.json()["data"]), mended["checks"]["policy"]) == (200, 1, "ok")


async def test_a_control_that_is_not_there_is_told_of_rules_and_of_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sidecar(tmp_path / "opa", ASKING) as opa:
        async with gateway(tmp_path, opa, monkeypatch) as serving:
            by_rule = await serving.until(policy_is_refused)
            opa.put({}, "r2")
            await serving.until(policy_is_fine)
            opa.put(
                {},
                "r3",
                guard_thresholds={**NO_THRESHOLDS, "output": {"scores": {}, "labels": {"x": "block"}}},
            )
            by_data = await serving.until(policy_is_refused)

    assert (
        "chunk/redact.rego:3: no-such-control: regate.chunk.redact asks in vain" in by_rule["policy_problem"]
    )
    assert "data.regate.guard_thresholds.output.labels asks in vain" in by_data["policy_problem"]


async def test_an_opa_that_does_not_show_its_policies_is_no_policy_and_what_to_permit_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = (
        (shipped_policies() / "system" / "authz.rego")
        .read_text()
        .replace('["v1", "policies"]', '["v1", "nothing"]')
    )
    with sidecar(tmp_path / "opa", {"system/authz.rego": closed}, token=TOKEN) as opa:
        async with gateway(tmp_path, opa, monkeypatch) as serving:
            refused = await serving.until(policy_is_refused)
            opa.put({}, "r2")
            shown = await serving.until(policy_is_fine)

    assert "GET /v1/policies answers 401" in refused["policy_problem"]
    assert "permit it to the gateway's token in system.authz" in refused["policy_problem"]
    assert (refused["code"], shown["checks"]["policy"]) == (503, "ok")
