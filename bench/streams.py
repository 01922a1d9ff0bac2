"""What the loop costs on a stream: the rate of 2 MB of single tokens beside a plain pass-through of ours and
the backend itself, the time to the first token, and a conversation of a thousand turns. All take turns in one
run. `python -m bench.streams`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Any

import aiohttp

from bench.backend import EVENT_BYTES
from bench.gateway import percentile, running_backend, running_gateway, token

_STREAM_BYTES = 2_000_000


class Bench:
    """One client for the backend and for the gateway before it."""

    def __init__(self, session: aiohttp.ClientSession, backend: str, gateway: str) -> None:
        self._session = session
        self._headers = {"Authorization": f"Bearer {token('user', 'acme')}"}
        self._backend = backend
        self._gateway = f"{gateway}/v1"

    async def stream(self, way: str, tokens: int) -> tuple[float, float]:
        """Return the seconds to the first token and to the end of a stream that came this way: direct,
        pass-through, or the loop.
        """
        chat = {
            "model": "bench",
            "messages": [{"role": "user", "content": "Go."}],
            "stream": True,
            "max_tokens": tokens,
        }
        loop = {
            "model": "bench",
            "input": "Go.",
            "stream": True,
            "max_output_tokens": max(16, tokens),
            "store": False,
        }
        url, body, headers = {
            "direct": (f"{self._backend}/chat/completions", chat, {}),
            "pass-through": (f"{self._gateway}/chat/completions", chat, self._headers),
            "loop": (f"{self._gateway}/responses", loop, self._headers),
        }[way]
        began, first, seen = time.perf_counter(), 0.0, 0
        async with self._session.post(url, json=body, headers=headers) as answer:
            async for data in answer.content.iter_any():
                if not first and b" token" in data:
                    first = time.perf_counter() - began
                seen += data.count(b" token")
        if answer.status != 200 or not seen:
            raise RuntimeError(f"{way}: {answer.status}")
        return first, time.perf_counter() - began

    async def turn(self, previous: str | None) -> tuple[str, float]:
        """Return the id of a further turn of a conversation, and the seconds that it took."""
        body: dict[str, Any] = {
            "model": "bench",
            "input": "And then?",
            "previous_response_id": previous,
            "max_output_tokens": 16,
        }
        began = time.perf_counter()
        async with self._session.post(
            f"{self._gateway}/responses", json=body, headers=self._headers
        ) as answer:
            found = json.loads(await answer.read())
        if answer.status != 200:
            raise RuntimeError(str(found))
        return found["id"], time.perf_counter() - began


async def rates(bench: Bench, *, rounds: int) -> None:
    """Print the rate of a long stream, each way."""
    tokens = _STREAM_BYTES // EVENT_BYTES
    taken: dict[str, list[float]] = {"direct": [], "pass-through": [], "loop": []}
    for _ in range(rounds):
        for way, seconds in taken.items():
            seconds.append((await bench.stream(way, tokens))[1])
    print(
        f"{_STREAM_BYTES / 1e6:.0f} MB in events of one token ({tokens} events), {rounds} rounds; "
        "noise: p90 - p10 of direct"
    )
    for way, seconds in taken.items():
        print(
            f"  {way:<14}{percentile(seconds, 0.5):>8.3f} s{tokens / percentile(seconds, 0.5):>12.0f} "
            "events/s"
        )
    noise = percentile(taken["direct"], 0.9) - percentile(taken["direct"], 0.1)
    share = percentile(taken["pass-through"], 0.5) / percentile(taken["loop"], 0.5)
    print(f"  the loop passes at {share:.0%} of the rate of the pass-through (aim 80 %); noise {noise:.3f} s")


async def first_tokens(bench: Bench, *, rounds: int) -> None:
    """Print the time to the first token, directly and through the loop."""
    taken: dict[str, list[float]] = {"direct": [], "pass-through": [], "loop": []}
    for _ in range(rounds):
        for way, seconds in taken.items():
            seconds.append((await bench.stream(way, 16))[0] * 1000)
    print("time to the first token, ms: p50, p99")
    for way, seconds in taken.items():
        print(f"  {way:<14}{percentile(seconds, 0.5):>8.2f}{percentile(seconds, 0.99):>8.2f}")
    added = percentile(taken["loop"], 0.5) - percentile(taken["direct"], 0.5)
    print(f"  added by the loop: p50 {added:.2f} ms (aim 5)")


async def chain(bench: Bench, *, turns: int) -> None:
    """Print what a turn takes as a conversation grows."""
    previous: str | None = None
    taken: list[float] = []
    for number in range(turns):
        previous, seconds = await bench.turn(previous)
        taken.append(seconds * 1000)
        if sys.stderr.isatty():
            print(f"\r  turn {number + 1} of {turns}", end="", file=sys.stderr, flush=True)
    print(f"a conversation of {turns} turns, ms a turn (p50 of the ten around)")
    for turn in (10, 50, 100, 250, 500, 1_000):
        if turn <= turns:
            print(f"  turn {turn:<6}{percentile(taken[max(0, turn - 10) : turn], 0.5):>8.1f}")


async def run(rounds: int, turns: int) -> None:
    """Measure, and print the tables."""
    async with (
        running_backend("bench.backend") as backend,
        running_gateway(backend) as gateway,
        aiohttp.ClientSession() as session,
    ):
        bench = Bench(session, backend, gateway.url)
        for way in ("direct", "pass-through", "loop"):
            await bench.stream(way, 100)
        await rates(bench, rounds=rounds)
        await first_tokens(bench, rounds=rounds * 20)
        await chain(bench, turns=turns)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--turns", type=int, default=1_000)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.rounds, arguments.turns))


if __name__ == "__main__":
    main()
