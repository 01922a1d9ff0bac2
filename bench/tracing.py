"""What traces cost: requests to `/v1/chat/completions` per second of the gateway's own processor time, without
traces and with some of the requests traced, in turns. `python -m bench.tracing`.

The processor time is that of all threads of the gateway, without OPA's.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from bench.gateway import RunningGateway, running_backend, running_gateway, token
from bench.overhead import measure

QUIET = {"access_log": False, "log_level": "warning"}
SHARES: dict[str, float | None] = {"no traces": None, "sample 0.0": 0.0, "sample 0.1": 0.1, "sample 1.0": 1.0}


@asynccontextmanager
async def running_collector() -> AsyncIterator[str]:
    """Enter with a collector that takes whatever comes."""

    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(content_type="application/x-protobuf")

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/traces", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    finally:
        await runner.cleanup()


def cpu_seconds(gateway: RunningGateway) -> float:
    """Return the processor time that the gateway's process has used."""
    fields = Path(f"/proc/{gateway.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def run(requests: int, rounds: int, only: set[str]) -> None:
    """Measure and print the table."""
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(running_backend("regate_gateway.demo.backend"))
        collector = await stack.enter_async_context(running_collector())
        session = await stack.enter_async_context(aiohttp.ClientSession())
        bearer = {"Authorization": f"Bearer {token('user', 'acme')}"}
        gateways = {}
        for name, share in SHARES.items():
            if only and name not in only:
                continue
            traces = {} if share is None else {"traces": {"endpoint": collector, "sample": share}}
            gateways[name] = await stack.enter_async_context(
                running_gateway(backend, more={"telemetry": {**QUIET, **traces}})
            )
        spent = dict.fromkeys(gateways, 0.0)
        for gateway in gateways.values():
            await measure(session, f"{gateway.url}/v1", bearer, requests=200, connections=8)
        for _ in range(rounds):
            for name, gateway in gateways.items():
                before = cpu_seconds(gateway)
                await measure(session, f"{gateway.url}/v1", bearer, requests=requests, connections=8)
                await asyncio.sleep(2.5)  # what the exporting thread has left to do counts too
                spent[name] += cpu_seconds(gateway) - before
        print(f"{'':<14}{'requests per CPU second':>26}{'ms of CPU each':>18}")
        for name, seconds in spent.items():
            print(
                f"{name:<14}{requests * rounds / seconds:>26.0f}{seconds / requests / rounds * 1_000:>18.2f}"
            )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", default=[], choices=list(SHARES))
    given = parser.parse_args()
    asyncio.run(run(given.requests, given.rounds, set(given.only)))


if __name__ == "__main__":
    main()
