"""What the audit log costs: a record with the chain and its checkpoints against one without, records a second of
one process, and records verified a second. `python -m bench.audit`.

The two ways of writing take turns, a record at a time, so that what the disk does meanwhile meets both alike. The
records are those of a turn with a search: 1.3 KB each.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.gateway import percentile
from bench.machine import describe, watched
from bench.timing import aim
from regate_adapters.audit.checkpoints import Checkpointing
from regate_adapters.audit.export.source import RecordSource
from regate_adapters.audit.lines import Position, time_of
from regate_adapters.audit.log import SegmentedAuditLog
from regate_adapters.audit.receipts import look_up, read_receipt
from regate_adapters.audit.segments import Entry, Segments
from regate_adapters.audit.signing import read_signing_key
from regate_adapters.audit.verifying import verify
from regate_orchestrator.values import JsonObject

KEY: Final = read_signing_key("11" * 32, setting="bench")
_ROTATE_BYTES: Final = 64 * 1024 * 1024
_MOST_MS: Final = 0.3
_LEAST_WRITTEN: Final = 5_000
_LEAST_VERIFIED: Final = 100_000
_CALLERS: Final = (1, 16, 64)


def record(number: int) -> JsonObject:
    """Return a record as the decision on a tool call makes it."""
    who = {
        "id": "alice",
        "tenant": "acme",
        "teams": [f"team-{team}" for team in range(5)],
        "roles": ["staff"],
    }
    decision = {
        "id": f"dec_{number:048x}",
        "rule": "regate/tool/allow",
        "about": "file_search",
        "resource": {
            "tool": {"name": "file_search", "arguments": {"vector_store_ids": [f"vs_{number:048x}"]}}
        },
        "allowed": True,
        "qualities": {"obligations": {"max_result_bytes": 4_194_304}},
        "padding": "x" * 500,
    }
    return {
        "kind": "decisions",
        "phase": "tool.call",
        "request_id": f"req_{number:048x}",
        "response_id": f"resp_{number:048x}",
        "asked_as": who,
        "revision": "065c4e4afcf54c35",
        "decisions": [decision],
    }


class Unchained(Segments):
    """The same log without its chain, as a measure."""

    def _chained(self, entries: Sequence[Entry]) -> tuple[list[Position], list[bytes]]:
        positions, lines = [], []
        for sequence, entry in enumerate(entries, self.next_sequence):
            positions.append(Position(sequence, "", ""))
            lines.append(b'{"seq":%d,"at":"%s",%s}\n' % (sequence, time_of(entry.at).encode(), entry.body))
        return positions, lines


def cost_of_a_record(folder: Path, records: int, *, durable: bool) -> None:
    """Print what one record takes with the chain and without."""
    making = Checkpointing(KEY, folder / "copies")
    ways = {
        "without": Unchained(folder / f"without-{durable}", durable=durable, rotate_bytes=_ROTATE_BYTES),
        "with": Segments(
            folder / f"with-{durable}", durable=durable, rotate_bytes=_ROTATE_BYTES, making=making
        ),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for segments in ways.values():
        segments.open(time.time())
    for number in range(records):
        for name, segments in ways.items():
            entry = Entry.of(time.time(), record(number))
            began = time.perf_counter()
            segments.append([entry], at=entry.at, checkpoint=number % 1_000 == 999)
            taken[name].append((time.perf_counter() - began) * 1_000)
    for segments in ways.values():
        segments.close()
    medians = {name: percentile(some, 0.5) for name, some in taken.items()}
    added = medians["with"] - medians["without"]
    where = "on the disk (fdatasync)" if durable else "handed to the system"
    print(
        f"a record, {where}: without {medians['without']:.3f} ms, with {medians['with']:.3f} ms, "
        f"adds {added:.3f} ms at the median, {percentile(taken['with'], 0.99):.2f} ms at p99 in all  "
        f"{aim(added, _MOST_MS, 'ms')}"
    )


async def written_a_second(folder: Path, records: int, callers: int) -> Path:
    """Print how many records a process writes a second, durably; return where they are."""
    directory = folder / f"many-{callers}"
    making = Checkpointing(KEY, directory / "checkpoints.jsonl")
    async with SegmentedAuditLog.open(directory, checkpoints=making) as log:
        left = iter(range(records))

        async def caller() -> None:
            for number in left:
                await log.record(record(number))

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        rate = records / (time.perf_counter() - began)
    met = "met" if rate >= _LEAST_WRITTEN else "not met"
    said = f"  at least {_LEAST_WRITTEN}/s: {met}" if callers == _CALLERS[-1] else ""
    print(f"{callers} callers at once, durable: {rate:,.0f} records a second{said}")
    return directory


def verified_a_second(directory: Path, records: int) -> None:
    """Print how many records are verified a second, and what looking up a receipt takes."""
    given: list[Position] = []
    segments = Segments(
        directory, durable=False, rotate_bytes=_ROTATE_BYTES, making=Checkpointing(KEY, directory / "copies")
    )
    segments.open(time.time())
    for start in range(0, records, 500):
        entries = [Entry.of(time.time(), record(number)) for number in range(start, start + 500)]
        given += segments.append(entries, at=entries[-1].at)
    segments.append([], at=time.time(), checkpoint=True)
    segments.close()
    began, read = time.perf_counter(), 0
    source = RecordSource(directory, after=0)
    while batch := source.more(up_to=given[-1].seq):
        read += len(batch)
    source.close()
    print(f"read for an export: {read / (time.perf_counter() - began):,.0f} records a second")
    began = time.perf_counter()
    found = verify(directory, {KEY.public.id: KEY.public}, copies=None)
    rate = found.records / (time.perf_counter() - began)
    met = "met" if rate >= _LEAST_VERIFIED else "not met"
    print(
        f"verified: {rate:,.0f} records a second of {found.records:,} in {found.segments} segments, "
        f"{'whole' if found.is_whole else 'NOT WHOLE'}  at least {_LEAST_VERIFIED}/s: {met}"
    )
    receipt = read_receipt(given[len(given) // 2].receipt)
    assert receipt is not None
    began = time.perf_counter()
    outcome = look_up(directory, receipt, {KEY.public.id: KEY.public}).outcome
    print(f"a receipt from its middle looked up: {(time.perf_counter() - began) * 1_000:.0f} ms, {outcome}")


def main() -> None:
    """Measure all of it in a temporary directory, or in the one that is named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, help="a directory on the disk that is meant")
    parser.add_argument("--records", type=int, default=4_000)
    parser.add_argument("--verified", type=int, default=200_000)
    given = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory(dir=given.folder) as name, watched() as noise:
        folder = Path(name)
        for durable in (False, True):
            cost_of_a_record(folder, given.records, durable=durable)
        for callers in _CALLERS:
            asyncio.run(written_a_second(folder, given.records * (5 if callers > 1 else 1), callers))
        verified_a_second(folder / "verified", given.verified)
    print(noise)


if __name__ == "__main__":
    main()
