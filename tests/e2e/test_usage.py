"""What was used survives a restart, is exported, and is what a budget has spent already."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import yaml
from click.testing import CliRunner
from tests.deployments import only_on
from tests.e2e.conftest import ScriptedUpstream, World, text
from tests.e2e.test_quotas import CHAT, answering
from tests.e2e.test_scoped_quotas import say_scoped

from regate_gateway.cli.main import main
from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running

pytestmark = only_on("embedded")


def _exported(settings: Settings, tmp_path: Path, *options: str) -> str:
    config = tmp_path / "regate.yaml"
    config.write_text(yaml.safe_dump({"data_dir": str(settings.data_dir)}))
    found = CliRunner().invoke(main, ["usage", "--config", str(config), *options])
    assert found.exit_code == 0, found.output
    return found.output


async def exported(settings: Settings, tmp_path: Path, *options: str) -> str:
    return await asyncio.to_thread(_exported, settings, tmp_path, *options)


async def test_usage_is_exported_by_tenant_person_and_model_and_a_restarted_gateway_knows_what_was_spent(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path, tmp_path: Path
) -> None:
    settings = configure()
    say_scoped(
        policies, tenants={"acme": {"tokens_per_month": 40}}, prices={"small": {"input": 1000, "output": 500}}
    )
    statuses = []
    for _ in range(2):
        app, gateway = gateway_app(settings)
        async with Running(app, settings.listen) as server:
            world = World(server.url, settings, gateway, upstream, policies)
            async with (
                world.http("ann") as ann,
                world.http("bob") as bob,
                world.http("eve", "globex") as eve,
            ):
                upstream.turns = [
                    answering({"prompt_tokens": 7, "completion_tokens": 3}),
                    text("Hello."),  # 7 and 3
                    answering({"prompt_tokens": 20, "completion_tokens": 5}),
                ]
                asked = [
                    await eve.post("/chat/completions", json=CHAT),
                    await ann.post("/responses", json={"model": "small", "input": "Hi"}),
                    await bob.post("/chat/completions", json=CHAT),
                    await bob.post("/chat/completions", json=CHAT | {"model": "absent"}),
                    await bob.post("/chat/completions", json=CHAT),
                ]
                upstream.turns = []
                statuses.append([answer.status_code for answer in asked])

    # The last of the first run overdraws the budget of 40; the second run knows it.
    assert statuses[0] == [200, 200, 200, 404, 200]
    assert statuses[1] == [200, 429, 429, 429, 429]
    people = (await exported(settings, tmp_path, "--by", "principal")).splitlines()
    assert people[0] == "tenant,principal,requests,input_tokens,output_tokens,cost"
    assert people[1] == "acme,ann,1,7,3,0.0085"
    assert people[3] == "globex,eve,2,14,6,0.017"
    (acme, globex) = json.loads(await exported(settings, tmp_path, "--format", "json"))
    assert (acme["tenant"], acme["requests"], globex["requests"]) == ("acme", 4, 2)
    models = (await exported(settings, tmp_path, "--by", "model", "--from", "2020-01-01")).splitlines()
    assert [line.split(",")[0:2] for line in models[1:]] == [["", "1"], ["small", "5"]]
    assert (await exported(settings, tmp_path, "--from", "2020-01-01", "--to", "2020-01-31")).count("\n") == 1
