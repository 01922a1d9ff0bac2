"""Runs all parts, or those named: `python -m bench.scale stores`."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Final

from bench.machine import describe, watched
from bench.scale.growth import conversation, responses, stores
from bench.scale.principals import principals
from bench.scale.soak import soak
from bench.scale.tenants import tenants

Part = Callable[[int], Awaitable[None]]

PARTS: Final[dict[str, tuple[Part, int]]] = {
    "stores": (stores, 2_000),
    "responses": (responses, 1_000_000),
    "conversation": (conversation, 200),
    "tenants": (tenants, 10_000),
    "principals": (principals, 1_000_000),
    "soak": (soak, int(os.environ.get("SOAK", "200000"))),
}


async def run(names: list[str], count: int | None) -> None:
    """Run these parts, each with so many or as many as it says."""
    print(describe())
    for name in names or list(PARTS):
        part, usual = PARTS[name]
        with watched() as noise:
            await part(count or usual)
        print(f"  {noise}\n", flush=True)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all of them without")
    parser.add_argument("--count", type=int, help="how many stores, responses, turns, tenants or requests")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.parts, arguments.count))


if __name__ == "__main__":
    main()
