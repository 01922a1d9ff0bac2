"""API keys through the whole gateway: made by the command beside it, used by the official client, revoked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml
from click.testing import CliRunner
from tests.deployments import only_on
from tests.e2e.conftest import NO_TLS
from tests.patience import PATIENT_SECONDS

from regate_adapters.audit.reading import read
from regate_gateway.cli.main import main
from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running

pytestmark = only_on("embedded")

PROVIDERS = {"providers": [{"name": "keys", "kind": "api_key", "cache_s": 0}]}
ISSUER = {"name": "idp", "kind": "jwt", "issuer": "i", "audience": "a", "algorithms": ["HS256"]}


async def regate(config: Path, *arguments: str) -> Any:
    """What the command prints, with --json."""
    line = ["key", *arguments, "--json", "--config", str(config)]
    done = await asyncio.to_thread(CliRunner().invoke, main, line)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


async def test_key_is_made_used_listed_and_revoked_while_the_gateway_runs(
    configure: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S", "s" * 32)
    settings = configure(auth={"providers": [*PROVIDERS["providers"], ISSUER | {"secret_env": "S"}]})
    config = tmp_path / "regate.yaml"
    config.write_text(yaml.safe_dump({"data_dir": str(settings.data_dir), "auth": PROVIDERS}))
    app, _ = gateway_app(settings)
    async with Running(app, settings.listen) as server, httpx.AsyncClient(verify=NO_TLS) as http:

        async def status(key: str) -> tuple[int, str]:
            headers = {"Authorization": f"Bearer {key}"}
            answer = await http.get(f"{server.url}/v1/models", headers=headers, timeout=PATIENT_SECONDS)
            return answer.status_code, answer.text

        options = ("--tenant", "acme", "--subject", "nightly", "--team", "hr", "--scope", "read")
        made = await regate(config, "create", *options, "--name", "run")
        key, identifier = made["key"], made["id"]
        client = openai.AsyncOpenAI(
            base_url=f"{server.url}/v1",
            api_key=key,
            http_client=openai.DefaultAsyncHttpxClient(verify=NO_TLS),
            timeout=PATIENT_SECONDS,
        )
        async with client:
            await client.conversations.create()
        mistyped = key[:-1] + ("0" if key[-1] == "1" else "1")
        refused = {await status(one) for one in (mistyped, key[:-1], "rgk_x", "a.b.c")}
        before, listed = (await status(key))[0], await regate(config, "list")
        await regate(config, "revoke", identifier)
        revoked = await status(key)

    assert (before, revoked[0], refused == {revoked}, len(refused)) == (200, 401, True, 1)
    assert [(one["id"], one["name"], one["revoked_at"]) for one in listed] == [(identifier, "run", None)]
    records = [one for one in read(settings.audit.path) if one.get("subject") == "nightly"]
    by = {"provider": "keys", "kind": "api_key", "credential": identifier}
    assert [one["authentication"] for one in records] == [by] * len(records)
    assert (records[0]["asked_as"]["teams"], records[0]["asked_as"]["scopes"]) == (["hr"], ["read"])
    kept = b"".join(path.read_bytes() for path in settings.data_dir.rglob("*") if path.is_file())
    assert (identifier.encode() in kept, key[17:].encode() in kept) == (True, False)
