"""A gateway exports what it records, and serves as if it did not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
from tests.adapters.audit.collector import attributes, running_collector
from tests.deployments import only_on
from tests.e2e.conftest import NO_TLS, ScriptedUpstream, World, text
from tests.patience import until

from regate_adapters.testing.ports import free_port
from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running

pytestmark = only_on("embedded")


async def test_a_gateway_serves_while_its_collector_is_away_and_exports_all_of_it_afterwards(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Any, tmp_path: Any
) -> None:
    port = free_port()
    export = {"name": "siem", "kind": "otlp", "url": f"http://127.0.0.1:{port}/v1/logs"}
    settings = configure(
        audit={"path": tmp_path / "audit", "checkpoints": tmp_path / "copies", "export": [export]}
    )
    app, gateway = gateway_app(settings)
    async with Running(app, settings.listen) as server, httpx.AsyncClient(verify=NO_TLS) as client:
        world = World(server.url, settings, gateway, upstream, policies)
        upstream.turns = [text("Hello.")]
        made = await world.client().responses.create(model="small", input="Hi")
        ready = await client.get(f"{server.url}/readyz")
        metrics = (await client.get(f"{server.url}/metrics")).text
        async with running_collector(port) as collector:
            await until(
                lambda: (
                    made.id in {attributes(one).get("regate.response_id") for one in collector.log_records}
                )
            )
        for one in world.clients:
            await one.close()

    assert (made.status, ready.status_code) == ("completed", 200)
    assert 'regate_audit_export_behind{destination="siem"}' in metrics
    assert collector.first_times == list(range(1, len(collector.first_times) + 1))
