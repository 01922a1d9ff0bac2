"""What decisions cost: one, many in a batch, and filters, compiled and remembered; beside raw asyncio and
httpx as references.

All against one managed OPA with the shipped policies, on its unix socket, by the engines that the gateway
has. `python -m bench.policy`.
"""

from __future__ import annotations

import argparse
import asyncio
from functools import partial
from typing import Final

import httpx
import orjson

from bench import crowds
from bench.gateway import percentile
from bench.machine import describe, watched
from bench.questions import batch, question
from bench.timing import Call, Row, aim, measure, table
from regate_adapters.opa.batching import BatchingEngine
from regate_adapters.opa.caching import CachingEngine
from regate_adapters.opa.client import OpaAddress, OpaClient, Reply
from regate_adapters.opa.engine import OpaEngine
from regate_adapters.testing.opa import running_opa
from regate_gateway.workbench.directory import shipped_policies
from regate_orchestrator.authz.batches import BATCH_RULE
from regate_orchestrator.filters.schema import load_schema
from regate_orchestrator.values import JsonObject

CHUNK: Final = "regate/chunk/allow"
_SIZES: Final = (10, 50, 100, 400)
_DEADLINE_SECONDS: Final = 10


def raw_asyncio(address: OpaAddress, path: str, body: bytes) -> Call:
    """Return a call over kept connections with nothing but asyncio's streams: what the socket
    itself costs.
    """
    head = (
        f"POST {path} HTTP/1.1\r\nHost: opa\r\nAuthorization: Bearer {address.token}\r\nContent-Type: "
        "application/json\r\n"
    )
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def call() -> None:
        reader, writer = streams.pop() if streams else await asyncio.open_unix_connection(address.socket)
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in answer.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        await reader.readexactly(length)
        streams.append((reader, writer))

    return call


async def decisions(engine: OpaEngine, address: OpaAddress, client: httpx.AsyncClient, calls: int) -> None:
    """Print what single decisions and batches cost."""
    batching = BatchingEngine(engine)
    rows: list[Row] = []
    for name, rule, asked, divisor, most in (
        ("decision", "regate/store/allow", question("store.search", 5), 1, 0.5),
        ("100 distinct chunks", BATCH_RULE, batch(100, distinct=True), 20, None),
    ):
        path, body = (
            f"/v1/data/{rule}?provenance=true&strict-builtin-errors=true",
            orjson.dumps({"input": asked}),
        )
        rows += [
            Row(
                f"{name}: engine",
                partial(engine.ask, rule, asked),
                calls // divisor,
                most,
                5_000 if most else None,
            ),
            Row(f"{name}: raw asyncio", raw_asyncio(address, path, body), calls // divisor),
            Row(f"{name}: httpx", partial(client.post, path, content=body), calls // divisor // 4),
        ]
    for distinct in (False, True):
        kind = "all distinct" if distinct else "seven stamps"
        rows += [
            Row(
                f"batch of {size}, {kind}",
                partial(batching.ask, BATCH_RULE, batch(size, distinct=distinct)),
                max(20, calls // (2 * size)),
                2 if size == 100 else None,
            )
            for size in _SIZES
        ]
    await table(rows)


async def plans(engine: OpaEngine, calls: int) -> None:
    """Print what it costs to compile a filter, to translate what OPA leaves of the rule, and to find a
    filter that is remembered.
    """
    print(
        f"\n{'filter for a user of':<24}{'residual':>12}{'compile p50':>13}{'translate p50':>15}{'remembered p50':>16}  aims"
    )
    for teams in (5, 100, 500, 10_000):
        asked = question("chunk.read", teams)
        repeated = max(20, calls // (10 if teams <= 500 else 100))
        cold, _ = await measure(partial(engine.plan, CHUNK, asked, unknown="chunk"), calls=repeated)
        replayed = await _Replayed.of(engine, asked)
        without_io, _ = await measure(
            partial(replayed.engine.plan, CHUNK, asked, unknown="chunk"), calls=repeated
        )
        caching = CachingEngine(engine, seconds=3_600, entries=10)
        await caching.plan(CHUNK, asked, unknown="chunk")
        warm, _ = await measure(partial(caching.plan, CHUNK, asked, unknown="chunk"), calls=calls)
        compiled, translated, remembered = (percentile(taken, 0.5) for taken in (cold, without_io, warm))
        line = (
            f"{teams:>6} teams{'':<12}{replayed.size:>10} B{compiled:>10.2f} ms{translated:>12.3f} "
            f"ms{1000 * remembered:>13.1f} µs"
        )
        aims = (
            [f"translate {aim(translated, 0.5, 'ms')}", f"remembered {aim(1000 * remembered, 20, 'µs')}"]
            if teams <= 100
            else []
        )
        aims += (
            [f"compile {aim(compiled, 50, 'ms')}, residual {aim(replayed.size / 1e6, 5, 'MB')}"]
            if teams == 500
            else []
        )
        print(f"{line}  {'; '.join(aims)}", flush=True)


class _Replayed:
    """An engine whose OPA answers at once with what it answered before, so that nothing is left but
    reading and translating.
    """

    def __init__(self, engine: OpaEngine, size: int) -> None:
        self.engine = engine
        self.size = size

    @classmethod
    async def of(cls, live: OpaEngine, asked: JsonObject) -> _Replayed:
        """Return the engine for this question, and the size of the residual."""
        tape = _Tape(live._client)  # noqa: SLF001 — there is no other way to a residual as bytes
        replaying = OpaEngine(OpaAddress("http://tape"), schemas=live._schemas)  # noqa: SLF001
        replaying._client = tape  # type: ignore[assignment]  # noqa: SLF001
        await replaying.plan(CHUNK, asked, unknown="chunk")
        return cls(replaying, tape.sizes["/v1/compile"])


class _Tape:
    """Asks each path once, and answers with that from then on."""

    def __init__(self, client: OpaClient) -> None:
        self._client = client
        self._replies: dict[str, Reply] = {}
        self.sizes: dict[str, int] = {}

    async def post(self, path: str, document: JsonObject) -> Reply:
        """Return the first reply."""
        if path not in self._replies:
            self._replies[path] = await self._client.post(path, document)
            self.sizes[path] = len(self._replies[path].body)
        return self._replies[path]


async def run(calls: int) -> None:
    """Measure, and print the tables."""
    print(describe())
    policies = shipped_policies()
    schemas = {
        kind: load_schema(policies / "schemas" / f"{kind}.json")
        for kind in ("chunk", "store", "file", "item")
    }
    running = running_opa(policies, schemas=schemas, deadline_s=_DEADLINE_SECONDS)
    async with running as engine:
        address = running.process.address
        transport = httpx.AsyncHTTPTransport(uds=str(address.socket))
        headers = {"Authorization": f"Bearer {address.token}"}
        with watched() as noise:
            async with httpx.AsyncClient(
                transport=transport, base_url="http://opa", headers=headers
            ) as client:
                await decisions(engine, address, client, calls)
            await plans(engine, calls)
            await crowds.measure_crowds(engine, schemas["chunk"])
        print(noise)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=4_000)
    asyncio.run(run(parser.parse_args().calls))


if __name__ == "__main__":
    main()
