"""A gateway on a signed policy bundle, as an operator has it: built by the command, refused at start,
degraded and mended while it serves.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.deployments import only_on
from tests.e2e.conftest import OPA_MS, ScriptedUpstream, World

from regate_gateway.cli.main import main
from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running
from regate_orchestrator.errors import ConfigurationError

pytestmark = only_on("embedded")

Configure = Callable[..., Settings]


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A private and a public key, as files."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private, public = tmp_path / "key.pem", tmp_path / "public.pem"
    plain = serialization.NoEncryption()
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private, public


def build(policies: Path, bundle: Path, *more: object) -> None:
    done = CliRunner().invoke(
        main, ["policy", "build", "--policy", str(policies), "--output", str(bundle), *map(str, more)]
    )
    assert done.exit_code == 0, done.output


async def ready(world_url: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Ask for readiness, as a load balancer does, until the answer is such."""
    async with httpx.AsyncClient(base_url=world_url, timeout=120) as anyone, asyncio.timeout(60):
        while not holds(body := (await anyone.get("/readyz")).json()):
            pass
        return dict(body)


async def test_gateway_serves_by_a_signed_bundle_and_a_bad_one_degrades_it_until_a_good_one_comes(
    configure: Configure, upstream: ScriptedUpstream, policies: Path, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    private, public = keys
    bundle, following = tmp_path / "policy.tar.gz", tmp_path / "next.tar.gz"
    schema = json.loads((policies / "schemas" / "store.json").read_text())
    schema["properties"]["region"] = {"type": "string", "description": "Where it is."}
    schema["required"].append("region")
    (policies / "schemas" / "store.json").write_text(json.dumps(schema))
    (policies / "custom" / "store").mkdir(parents=True)
    (policies / "custom" / "store" / "store.rego").write_text(
        'package regate.custom.store\n\nstamp := {"region": "eu"}\n'
    )
    build(policies, bundle, "--signing-key", private, "--revision", "r1")
    settings = configure(opa={"bundle": bundle, "verification_key": public, "timeout_ms": OPA_MS})
    app, gateway = gateway_app(settings)
    async with Running(app, settings.listen) as server:
        world = World(server.url, settings, gateway, upstream, policies)
        assert gateway.services is not None
        assert "region" in gateway.services.schemas["store"].fields
        async with world.http() as alice:
            made = (await alice.post("/vector_stores", json={"name": "hers"})).json()
            (policies / "custom" / "store" / "store.rego").write_text(
                'package regate.custom.store\n\nstamp := {"region": "eu"}\n\ndeny if '
                'input.store.region == "eu"\n'
            )
            build(policies, following)  # nobody signed it
            following.replace(bundle)
            degraded = await ready(server.url, lambda body: body["status"] == "degraded")
            meanwhile = await alice.get(f"/vector_stores/{made['id']}")

            build(policies, following, "--signing-key", private, "--revision", "r2")
            following.replace(bundle)
            mended = await ready(server.url, lambda body: body["status"] == "ready")
            afterwards = await alice.get(f"/vector_stores/{made['id']}")
            denied = next(
                one["id"]
                for record in world.audit()
                for one in record.get("decisions", ())
                if not one["allowed"]
            )
        async with world.http("carol", roles=["policy_admin"]) as admin:
            explained = (await admin.get("/regate/explain", params={"decision": denied})).json()

    assert (degraded["policy_revision"], meanwhile.status_code) == ("r1", 200)
    assert degraded["policy_problem"] == "policy.tar.gz is refused: bundle missing .signatures.json file"
    assert (mended["policy_revision"], afterwards.status_code) == ("r2", 404)
    assert explained["decisions"][0]["reasons"] == ["denied_by_custom_rule"]
    assert explained["decisions"][0]["attempts"]


async def refusal(settings: Settings) -> str:
    app, _ = gateway_app(settings)
    with pytest.raises(ConfigurationError) as refused:
        async with Running(app, settings.listen):
            pass
    return refused.value.message


async def test_gateway_does_not_start_on_a_bundle_that_is_not_signed(
    configure: Configure, policies: Path, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    bundle = tmp_path / "policy.tar.gz"
    build(policies, bundle)

    cause = await refusal(configure(opa={"bundle": bundle, "verification_key": keys[1]}))

    assert cause == "policy.tar.gz is refused: bundle missing .signatures.json file"


@pytest.mark.parametrize(
    ("with_key", "says"), [(True, "a directory has no signature"), (False, "set opa.verification_key")]
)
async def test_a_key_belongs_to_a_bundle_and_a_bundle_to_a_key(
    with_key: bool,
    says: str,
    configure: Configure,
    policies: Path,
    tmp_path: Path,
    keys: tuple[Path, Path],
) -> None:
    bundle = tmp_path / "policy.tar.gz"
    build(policies, bundle, "--signing-key", keys[0])
    opa = {"bundle": policies, "verification_key": keys[1]} if with_key else {"bundle": bundle}

    assert says in await refusal(configure(opa=opa))


@pytest.mark.usefixtures("deployment")
@pytest.mark.parametrize("command", [["check"], ["build", "--output", "b.tar.gz"]])
def test_what_works_on_sources_asks_for_the_directory_when_a_bundle_is_configured(
    command: list[str],
    policies: Path,
    tmp_path: Path,
    keys: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build(policies, tmp_path / "policy.tar.gz", "--signing-key", keys[0])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "regate.yaml").write_text("opa: {bundle: policy.tar.gz, verification_key: public.pem}\n")

    result = CliRunner().invoke(main, ["policy", *command])

    assert (result.exit_code, "--policy" in result.output) == (1, True)
