"""What the gateway adds to `/v1/chat/completions`: the same request to a backend directly and through Regate,
taking turns in one run.

Also start time, memory after start, and decisions per request. `python -m bench.overhead`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time

import aiohttp

from bench.gateway import RunningGateway, percentile, running_backend, running_gateway, token

BODY = {
    "model": "regate-extract",
    "messages": [{"role": "user", "content": "Say something short."}],
    "max_tokens": 16,
}


async def measure(
    session: aiohttp.ClientSession, url: str, headers: dict[str, str], *, requests: int, connections: int
) -> list[float]:
    """Return each request's milliseconds, `connections` at a time."""
    left = iter(range(requests))
    taken: list[float] = []

    async def worker() -> None:
        for _ in left:
            began = time.perf_counter()
            async with session.post(f"{url}/chat/completions", json=BODY, headers=headers) as answer:
                await answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"{answer.status}: {await answer.text()}")
            taken.append((time.perf_counter() - began) * 1000)

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(worker())
    return taken


async def run(requests: int) -> None:
    """Measure in alternating blocks, so that the machine's mood falls on both alike, and print the table."""
    async with (
        running_backend("regate_gateway.demo.backend") as backend,
        running_gateway(backend) as gateway,
        aiohttp.ClientSession() as session,
    ):
        print(f"start: {gateway.start_seconds:.2f} s; memory after start: {gateway.resident_mib():.0f} MiB")
        bearer = {"Authorization": f"Bearer {token('user', 'acme')}"}
        print(f"{'connections':<13}{'':<10}{'p50 ms':>8}{'p99 ms':>8}{'req/s':>8}")
        for connections in (1, 16):
            direct: list[float] = []
            through: list[float] = []
            seconds = {"direct": 0.0, "gateway": 0.0}
            await measure(session, f"{gateway.url}/v1", bearer, requests=50, connections=connections)
            for _ in range(5):
                for name, url, headers, taken in (
                    ("direct", backend, {}, direct),
                    ("gateway", f"{gateway.url}/v1", bearer, through),
                ):
                    began = time.perf_counter()
                    taken.extend(
                        await measure(session, url, headers, requests=requests // 5, connections=connections)
                    )
                    seconds[name] += time.perf_counter() - began
            for name, taken in (("direct", direct), ("gateway", through)):
                row = f"{percentile(taken, 0.5):>8.2f}{percentile(taken, 0.99):>8.2f}{len(taken) / seconds[name]:>8.0f}"
                print(f"{connections:<13}{name:<10}{row}")
            added = percentile(through, 0.5) - percentile(direct, 0.5)
            noise = percentile(direct, 0.9) - percentile(direct, 0.1)
            print(f"{'':<13}added p50 {added:.2f} ms; noise (p90 - p10 of direct) {noise:.2f} ms")
        print(
            f"decisions per request: {decisions_per_request(gateway):.2f}; memory after: "
            f"{gateway.resident_mib():.0f} MiB"
        )


def decisions_per_request(gateway: RunningGateway) -> float:
    """Return how many decisions the audit records hold for each request, identity included."""
    decisions, seen = 0, set()
    for path in sorted((gateway.data_dir / "audit").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            seen.add(record.get("request_id"))
            decisions += len(record.get("decisions", ()))
    return 1 + decisions / max(1, len(seen))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2_000)
    asyncio.run(run(parser.parse_args().requests))


if __name__ == "__main__":
    main()
