"""What a request costs on one core, beside nginx, a bare pass-through and another gateway, in one run.

Whoever is measured has the second core with all that it starts (OPA); the load and the backend have the first.
Rates depend on who else uses the machine; the processor time of a request does not. `python -m bench.peers
[--requests N] [--only regate,bare]`. nginx is measured where it is installed, LiteLLM where `.venv-peers` has it
(`make peers`). Writes `bench/results/peers.json` and a plot, `peers.svg`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench.gateway import free_port, running_backend, running_gateway, until_answering
from bench.load import Load, drive, request
from bench.machine import describe, watched
from bench.peers_plot import plot
from bench.processes import Usage, usage_of
from bench.tokens import Issuer

RESULTS: Final = Path("bench/results")
_LITELLM: Final = Path(".venv-peers/bin/litellm")
_CONNECTIONS: Final = 16
_LITELLM_KEY: Final = "sk-bench-0123456789"
_CHAT: Final = {"messages": [{"role": "user", "content": "Say something short."}], "model": "bench"}
_JSON: Final = {**_CHAT, "max_tokens": 16}
_STREAM: Final = {**_CHAT, "max_tokens": 64, "stream": True}
_PACED: Final = {**_STREAM, "model": "paced"}
_ANSWER: Final = {"model": "bench", "input": "Say something short.", "max_output_tokens": 16}
_DOCUMENT: Final = "Section {n}. Annual leave is {n} days, to be taken by the end of March. " * 30


@dataclass(frozen=True, slots=True)
class Peer:
    """Whoever is measured: where it answers, with which token, and its processes."""

    name: str
    url: str
    token: str | None
    pid: int | None


@dataclass(slots=True)
class Row:
    """What was measured of one kind of request at one peer."""

    peer: str
    kind: str
    rate: float
    cpu_us: float | None
    share: dict[str, float]
    p50_ms: float
    rss_mib: float | None


class Bench:
    """Measures peers, one kind of request after the other."""

    def __init__(self, requests: int) -> None:
        self._requests = requests
        self.rows: list[Row] = []

    async def measure(
        self, peer: Peer, kind: str, path: str, body: Mapping[str, Any], *, share: float = 1.0
    ) -> None:
        """Add a row, and print it: a share of the usual number of requests at sixteen connections, then the
        median at one.
        """
        message, count = request(peer.url + path, body, token=peer.token), int(self._requests * share)
        await drive(peer.url, message, requests=max(32, count // 5), connections=_CONNECTIONS)
        before = usage_of(peer.pid)
        load = await drive(peer.url, message, requests=count, connections=_CONNECTIONS)
        used = usage_of(peer.pid).since(before)
        alone = await drive(peer.url, message, requests=max(50, count // 10), connections=1)
        self._add(peer, kind, load, used, count, p50=alone.p50)

    async def live(self, peer: Peer, path: str, body: Mapping[str, Any], *, at_once: int) -> None:
        """Add a row for so many streams at once, each with a token each 20 ms: the processor time of a token."""
        message = request(peer.url + path, body, token=peer.token)
        await drive(peer.url, message, requests=at_once, connections=at_once)
        before = usage_of(peer.pid)
        load = await drive(peer.url, message, requests=2 * at_once, connections=at_once)
        used = usage_of(peer.pid).since(before)
        self._add(peer, f"live token, {at_once} streams", load, used, 2 * at_once * 64, p50=load.p50)

    def _add(self, peer: Peer, kind: str, load: Load, used: Usage, count: int, *, p50: float) -> None:
        cpu = None if peer.pid is None else used.seconds * 1e6 / count
        share = {name: round(of / used.seconds, 2) for name, of in used.by_name.items()} if cpu else {}
        row = Row(peer.name, kind, load.rate, cpu, share, p50, used.resident_mib if peer.pid else None)
        self.rows.append(row)
        costs = "–" if cpu is None else f"{cpu:,.0f}"
        print(
            f"{peer.name:<12}{kind:<30}{row.rate:>9,.0f}{costs:>12}{row.p50_ms:>9.2f}"
            f"{row.rss_mib or 0:>7.0f}  {', '.join(f'{name} {of:.0%}' for name, of in share.items())}",
            flush=True,
        )


async def run(requests: int, only: frozenset[str]) -> None:
    """Measure all peers and print the table, the aims, and whether they are met."""
    print(describe())
    print(f"{'':<12}{'':<30}{'req/s':>9}{'CPU µs':>12}{'p50 ms':>9}{'MiB':>7}")
    bench = Bench(requests)
    _pin_myself(0)
    with watched() as noise:
        async with running_backend("bench.backend") as backend:
            await _direct(bench, backend)
            for name, measure in _PEERS.items():
                if not only or name in only:
                    await measure(bench, backend)
    print(noise)
    rows = [asdict(row) for row in bench.rows]
    aims = list(_aims(bench.rows))
    for text, met in aims:
        print(f"{'met   ' if met else 'MISSED'} {text}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    found = {"machine": describe(), "noise": str(noise), "rows": rows, "aims": aims}
    (RESULTS / "peers.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    (RESULTS / "peers.svg").write_text(plot(bench.rows), encoding="utf-8")


async def _direct(bench: Bench, backend: str) -> None:
    peer = Peer("direct", backend, None, None)
    await bench.measure(peer, "chat", "/chat/completions", _JSON)
    await bench.measure(peer, "stream of 64", "/chat/completions", _STREAM, share=0.25)


async def _proxies(bench: Bench, peer: Peer, *, share: float = 1.0) -> None:
    await bench.measure(peer, "chat", "/chat/completions", _JSON, share=share)
    await bench.measure(peer, "stream of 64", "/chat/completions", _STREAM, share=share / 4)


async def _nginx(bench: Bench, backend: str) -> None:
    program = shutil.which("nginx")
    if program is None:
        print("nginx is not installed: not measured")
        return
    with tempfile.TemporaryDirectory(prefix="regate-nginx-") as folder:
        port, upstream = free_port(), backend.removeprefix("http://").removesuffix("/v1")
        path = Path(folder) / "nginx.conf"
        path.write_text(
            f"worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;\n"
            "events { worker_connections 1024; }\n"
            "http { access_log off; client_body_temp_path /tmp; proxy_temp_path /tmp;\n"
            f" upstream backend {{ server {upstream}; keepalive 64; }}\n"
            f" server {{ listen 127.0.0.1:{port};\n"
            "  location / { proxy_pass http://backend; proxy_http_version 1.1; proxy_buffering off;"
            ' proxy_set_header Connection ""; } } }\n',
            encoding="utf-8",
        )
        async with _process(program, "-c", str(path), "-p", folder) as process:
            url = f"http://127.0.0.1:{port}/v1"
            await until_answering(f"{url}/models", process)
            await _proxies(bench, Peer("nginx", url, None, process.pid))


async def _bare(bench: Bench, backend: str) -> None:
    port = free_port()
    async with _process(
        sys.executable, "-m", "bench.bare_proxy", "--port", str(port), "--to", backend
    ) as process:
        url = f"http://127.0.0.1:{port}/v1"
        await until_answering(f"{url}/models", process)
        await _proxies(bench, Peer("bare", url, None, process.pid))


async def _litellm(bench: Bench, backend: str) -> None:
    if not _LITELLM.exists():
        print("LiteLLM is not installed: not measured (`make peers` installs it)")
        return
    with tempfile.TemporaryDirectory(prefix="regate-litellm-") as folder:
        port, path = free_port(), Path(folder) / "config.yaml"
        upstream = {"model": "openai/bench", "api_base": backend, "api_key": "none"}
        settings = {
            "model_list": [{"model_name": "bench", "litellm_params": upstream}],
            "general_settings": {"master_key": _LITELLM_KEY},
        }
        path.write_text(json.dumps(settings), encoding="utf-8")
        arguments = ("--config", str(path), "--port", str(port), "--host", "127.0.0.1")
        async with _process(
            str(_LITELLM), *arguments, env={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
        ) as process:
            url = f"http://127.0.0.1:{port}/v1"
            await until_answering(f"http://127.0.0.1:{port}/health/liveliness", process)
            await _proxies(bench, Peer("LiteLLM", url, _LITELLM_KEY, process.pid), share=0.15)


async def _regate(bench: Bench, backend: str) -> None:
    issuer = Issuer()
    async with running_gateway(backend, more=issuer.settings(), prefix=_on_core(1)) as gateway:
        peer = Peer("Regate", f"{gateway.url}/v1", issuer.token("user", "acme"), gateway.process.pid)
        await _proxies(bench, peer)
        await bench.live(peer, "/chat/completions", _PACED, at_once=200)
        await bench.measure(peer, "responses", "/responses", _ANSWER, share=0.5)
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {peer.token}"}) as session:
            turn = await _turns(session, peer.url, 10)
            await bench.measure(
                peer,
                "responses, ten turns",
                "/responses",
                {**_ANSWER, "previous_response_id": turn},
                share=0.25,
            )
            store = await _store(session, peer.url)
            search = {"type": "file_search", "vector_store_ids": [store]}
            await bench.measure(
                peer, "responses, file_search", "/responses", {**_ANSWER, "tools": [search]}, share=0.1
            )


async def _turns(session: aiohttp.ClientSession, url: str, count: int) -> str:
    """Return the last response of a chain."""
    last: str | None = None
    for _ in range(count):
        last = (await _posted(session, f"{url}/responses", {**_ANSWER, "previous_response_id": last}))["id"]
    return str(last)


async def _store(session: aiohttp.ClientSession, url: str) -> str:
    """Return a vector store of 20 files with about 200 chunks, all of them ready."""
    store = (await _posted(session, f"{url}/vector_stores", {"name": "bench"}))["id"]
    ids = []
    for number in range(20):
        form = aiohttp.FormData({"purpose": "assistants"})
        text = "\n\n".join(_DOCUMENT.replace("{n}", str(number * 100 + part)) for part in range(10))
        form.add_field("file", text.encode(), filename=f"leave-{number}.md", content_type="text/markdown")
        async with session.post(f"{url}/files", data=form) as answer:
            ids.append((await answer.json())["id"])
    await _posted(session, f"{url}/vector_stores/{store}/file_batches", {"file_ids": ids})
    async with asyncio.timeout(300):
        while True:
            async with session.get(f"{url}/vector_stores/{store}") as answer:
                counts = (await answer.json())["file_counts"]
            if counts["completed"] == len(ids):
                return str(store)
            await asyncio.sleep(0.1)


async def _posted(session: aiohttp.ClientSession, url: str, body: Mapping[str, Any]) -> dict[str, Any]:
    async with session.post(url, json=body) as answer:
        found: dict[str, Any] = await answer.json()
        if answer.status != 200:
            raise RuntimeError(f"{url}: {found}")
        return found


_PEERS: Final[Mapping[str, Callable[[Bench, str], Awaitable[None]]]] = {
    "nginx": _nginx,
    "bare": _bare,
    "litellm": _litellm,
    "regate": _regate,
}


def _aims(rows: list[Row]) -> Iterator[tuple[str, bool]]:
    """Yield each aim in words, with what was measured, and whether it is met; those whose peers were measured.

    Rates are compared by processor time where both have it: that is what one core gives.
    """
    by = {(row.peer, row.kind): row for row in rows}

    def cost(peer: str, kind: str) -> float | None:
        row = by.get((peer, kind))
        return None if row is None else row.cpu_us

    def ratio(
        text: str, a: float | None, b: float | None, *, least: float = 0, most: float = 1e9
    ) -> Iterator[tuple[str, bool]]:
        if a and b:
            wanted = f"at least {least:g}" if least else f"at most {most:g}"
            yield f"{text}: {a / b:.2f} ({wanted})", least <= a / b <= most

    chat, bare, lite = cost("Regate", "chat"), cost("bare", "chat"), cost("LiteLLM", "chat")
    yield from ratio("chat per core, as a share of the bare pass-through", bare, chat, least=0.6)
    yield from ratio("chat per core, times LiteLLM", lite, chat, least=25)
    yield from ratio("CPU of a chat, times nginx", chat, cost("nginx", "chat"), most=10)
    yield from ratio(
        "stream per core, as a share of the bare pass-through",
        cost("bare", "stream of 64"),
        cost("Regate", "stream of 64"),
        least=0.7,
    )
    if all((peer, "chat") in by for peer in ("direct", "bare", "Regate")):
        direct, through, ours = (by[peer, "chat"].p50_ms for peer in ("direct", "bare", "Regate"))
        yield from ratio(
            "added p50 at one connection, times the bare one's", ours - direct, through - direct, most=2
        )
    yield from ratio("responses per core, times LiteLLM's chat", lite, cost("Regate", "responses"), least=8)
    yield from ratio(
        "responses with file_search per core, times LiteLLM's chat",
        lite,
        cost("Regate", "responses, file_search"),
        least=10 * 22 / 110,
    )
    yield from ratio(
        "a response after ten turns, times one without",
        cost("Regate", "responses, ten turns"),
        cost("Regate", "responses"),
        most=1.5,
    )
    for (_, kind), row in by.items():
        if kind.startswith("live") and row.cpu_us:
            yield f"CPU of a live token: {row.cpu_us:.0f} µs (at most 50)", row.cpu_us <= 50
    if (last := by.get(("Regate", "responses, ten turns"))) is not None and last.rss_mib:
        yield f"memory: {last.rss_mib:.0f} MiB (at most 150)", last.rss_mib <= 150


def _on_core(number: int) -> tuple[str, ...]:
    can = shutil.which("taskset") and (os.cpu_count() or 1) > number
    return ("taskset", "-c", str(number)) if can else ()


def _pin_myself(core: int) -> None:
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})


@asynccontextmanager
async def _process(
    *command: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Enter with a process on the second core; it ends on leaving."""
    process = await asyncio.create_subprocess_exec(
        *_on_core(1), *command, env={**os.environ, **(env or {})}, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4_000)
    parser.add_argument("--only", default="", help="peers, with commas between: nginx,bare,litellm,regate")
    asked = parser.parse_args()
    asyncio.run(run(asked.requests, frozenset(filter(None, asked.only.split(",")))))


if __name__ == "__main__":
    main()
