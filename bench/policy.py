"""What decisions cost: one, many in a batch, and a filter compiled and translated; beside raw asyncio and httpx as references.

All against one managed OPA with the shipped policies, on its unix socket, taking turns in one run. `python -m bench.policy`.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import orjson

from bench.gateway import percentile
from regate_adapters.opa.client import OpaAddress
from regate_adapters.opa.engine import OpaEngine
from regate_adapters.opa.install import require_opa
from regate_adapters.opa.process import ManagedOpa
from regate_gateway.policy.directory import shipped_policies
from regate_orchestrator.schema import load_schema

Call = Callable[[], Awaitable[object]]
STORE = {"id": "vs_1", "name": "s", "tenant": "acme", "owner": "bob", "shared": False, "visibility": "tenant", "level": 0, "labels": []}
STORE |= {"teams": [], "roles": [], "projects": [], "namespaces": []}


def principal(groups: int) -> dict[str, Any]:
    """Return a principal with this many teams."""
    lists: dict[str, Any] = {key: [] for key in ("roles", "projects", "namespaces", "scopes")}
    return {"id": "alice", "tenant": "acme", "teams": [f"team-{number}" for number in range(groups)], "clearance": 2, "attrs": {}} | lists


def document(action: str, groups: int, **resource: Any) -> dict[str, Any]:
    """Return a policy input."""
    common = {"v": 1, "now": int(time.time()), "request_id": "req_bench", "action": action, "principal": principal(groups)}
    return common | {"store": STORE} | resource


def chunk(number: int, labels: int = 1) -> dict[str, Any]:
    """Return a chunk's stamp."""
    lists: dict[str, Any] = {"teams": [f"team-{number % 7}"], "roles": [], "projects": [], "namespaces": []}
    scalars = {"tenant": "acme", "owner": "bob", "visibility": "attributes", "level": 1, "legal_hold": False, "embargo_until": 0}
    return scalars | lists | {"labels": [f"label-{label}" for label in range(labels)]}


def batch(size: int, groups: int = 5, labels: int = 1) -> dict[str, Any]:
    """Return the input of a batch decision."""
    chunks = [{"store": "vs_1", "chunk": chunk(number, labels)} for number in range(size)]
    return document("batch", groups, stores={"vs_1": STORE}, chunks=chunks, items=[], tool_results=[], models=[])


async def measure(call: Call, *, calls: int, connections: int) -> tuple[list[float], float]:
    """Return each call's milliseconds, and calls per second."""
    left = iter(range(calls))
    taken: list[float] = []

    async def worker() -> None:
        for _ in left:
            began = time.perf_counter()
            await call()
            taken.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(worker())
    return taken, calls / (time.perf_counter() - began)


def raw_asyncio(address: OpaAddress, path: str, body: bytes) -> Call:
    """Return a call over a kept connection with nothing but asyncio's streams: what the socket itself costs. For one caller at a time."""
    head = f"POST {path} HTTP/1.1\r\nHost: opa\r\nAuthorization: Bearer {address.token}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def call() -> None:
        reader, writer = streams.pop() if streams else await asyncio.open_unix_connection(address.socket)
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in answer.split(b"\r\n") if line.lower().startswith(b"content-length"))
        await reader.readexactly(length)
        streams.append((reader, writer))

    return call


async def run(calls: int) -> None:
    """Measure, and print the table."""
    policies = shipped_policies()
    schemas = {kind: load_schema(policies / "schemas" / f"{kind}.json") for kind in ("chunk", "store", "file", "item")}
    async with ManagedOpa(policies, opa=require_opa()) as opa, OpaEngine(opa.address, schemas=schemas, deadline_s=10) as engine:
        transport = httpx.AsyncHTTPTransport(uds=str(opa.address.socket))
        headers = {"Authorization": f"Bearer {opa.address.token}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://opa", headers=headers) as client:
            one = document("store.search", 5)
            path, body = "/v1/data/regate/store/allow?provenance=true&strict-builtin-errors=true", orjson.dumps({"input": one})
            rows: list[tuple[str, Call, int]] = [
                ("decision, engine", lambda: engine.ask("regate/store/allow", one), calls),
                ("decision, raw asyncio", raw_asyncio(opa.address, path, body), calls),
                ("decision, httpx", lambda: client.post(path, content=body), calls // 4),
            ]
            for size in (10, 50, 100, 400):
                asked = batch(size)
                rows.append((f"batch of {size}", lambda asked=asked: engine.ask("regate/lib/batch/admitted", asked), calls // 10))
            for groups in (5, 100, 500, 10_000):
                compiled = document("chunk.read", groups)
                plan = lambda compiled=compiled: engine.plan("regate/chunk/allow", compiled, unknown="chunk")  # noqa: E731 — one line a row
                rows.append((f"compile and translate, {groups} teams", plan, max(20, calls // (10 if groups < 1_000 else 100))))
            wide = batch(100, groups=500, labels=100)
            rows.append(
                ("batch of 100, 500 teams, 100 labels", lambda: engine.ask("regate/lib/batch/admitted", wide), max(20, calls // 50))
            )
            print(f"{'':<38}{'at 1: p50 ms':>14}{'p99 ms':>9}{'per s':>8}{'at 16: p50 ms':>16}{'p99 ms':>9}{'per s':>8}")
            for name, call, count in rows:
                line = f"{name:<38}"
                for connections, width in ((1, 14), (16, 16)):
                    await measure(call, calls=max(5, count // 10), connections=connections)
                    taken, rate = await measure(call, calls=count, connections=connections)
                    line += f"{percentile(taken, 0.5):>{width}.2f}{percentile(taken, 0.99):>9.2f}{rate:>8.0f}"
                print(line, flush=True)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=4_000)
    asyncio.run(run(parser.parse_args().calls))


if __name__ == "__main__":
    main()
