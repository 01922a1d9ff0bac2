"""`regate audit` over real logs: who saw what, who was refused what, and when."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from regate_adapters.audit.log import SegmentedAuditLog
from regate_adapters.audit.reading import AuditLogReader
from regate_adapters.audit.segments import segments_in
from regate_gateway.cli.main import main

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC).timestamp()
LONG = [f"acme/file-c/e/{number:06d}" for number in range(12)]


def decided(subject: str, *, about: str, allowed: bool, tenant: str = "acme", **more: Any) -> dict[str, Any]:
    decision = {
        "action": "file.read",
        "about": about,
        "allowed": allowed,
        "reasons": [] if allowed else ["not_shared"],
    }
    return {
        "kind": "decisions",
        "phase": "file.read",
        "subject": subject,
        "tenant": tenant,
        "request_id": f"req_{subject}",
        **more,
        "decisions": [decision],
    }


def found(subject: str, chunks: Sequence[str], admitted: Sequence[int]) -> dict[str, Any]:
    batch = {
        "chunks": {
            "asked": [{"store": "vs_1", "chunk": {"level": number}} for number in range(len(chunks))],
            "admitted": list(admitted),
        }
    }
    retrieval = {"store": "vs_1", "total": 9, "permitted": 9, "returned": len(chunks), "chunks": list(chunks)}
    who = {
        "subject": subject,
        "tenant": "acme",
        "request_id": f"req_{subject}",
        "response_id": f"resp_{subject}",
    }
    return {
        "kind": "decisions",
        "phase": "chunk.read",
        **who,
        "decisions": [],
        "batch": batch,
        "retrieval": retrieval,
    }


def listed(subject: str, files: Sequence[str], admitted: Sequence[int]) -> dict[str, Any]:
    asked = [{"file": {"id": file}} for file in files]
    return {
        "kind": "decisions",
        "phase": "lists",
        "subject": subject,
        "tenant": "acme",
        "batch": {"files": {"asked": asked, "admitted": list(admitted)}},
    }


FIRST = [
    decided("alice", about="file-a", allowed=True),
    decided("bob", about="file-a", allowed=False),
    found("alice", ["acme/file-a/e/000000", "acme/file-b/e/000000"], [1]),
    found("bob", LONG, [0, 1, 2, 11]),
    listed("carol", ["file-a", "file-b"], [0]),
]
SECOND = [
    decided("dave", about="file-a", allowed=True, tenant="globex", response_id="resp_dave"),
    {
        "kind": "denied",
        "phase": "chunk.denied",
        "subject": "dave",
        "tenant": "globex",
        "chunks": ["globex/file-a/e/000001"],
    },
    {"kind": "sweep", "phase": "file.expire", "tenant": "acme", "about": "file-b"},
]


async def write(directory: Path, records: Sequence[dict[str, Any]], *, at: float, **settings: Any) -> None:
    times = iter(at + number * 60 for number in range(-1, 1_000))  # opening asks for one
    async with SegmentedAuditLog.open(directory, durable=False, clock=lambda: next(times), **settings) as log:
        for record in records:
            await log.record(record)


@pytest.fixture
async def logs(tmp_path: Path) -> list[str]:
    """Two gateways' logs: one record a minute from noon on, those of the second half a minute later."""
    await write(tmp_path / "one", FIRST, at=NOON)
    await write(tmp_path / "two", SECOND, at=NOON + 30)
    return ["--log", str(tmp_path / "one"), "--log", str(tmp_path / "two")]


def subjects(logs: list[str], *arguments: str) -> list[str]:
    done = CliRunner().invoke(main, ["audit", *logs, "--json", *arguments])
    assert done.exit_code in (0, 1), done.output
    return [json.loads(line).get("subject", "-") for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["alice", "dave", "bob", "dave", "alice", "-", "bob", "carol"]),
        (["--subject", "bob"], ["bob", "bob"]),
        (["--tenant", "globex"], ["dave", "dave"]),
        (["--request", "req_alice"], ["alice", "alice"]),
        (["--response", "resp_dave"], ["dave"]),
        (["--file", "file-a"], ["alice", "dave", "bob", "dave", "alice", "carol"]),
        (["--file", "file-a", "--denied"], ["bob", "dave", "alice"]),
        (["--file", "file-b"], ["alice", "-", "carol"]),
        (["--file", "file-b", "--denied"], ["carol"]),
        (["--file", "file"], []),
        (["--chunk", "acme/file-b/e/000000"], ["alice"]),
        (["--chunk", LONG[11]], ["bob"]),
        (["--chunk", LONG[10], "--denied"], ["bob"]),
        (["--chunk", LONG[11], "--denied"], []),
        (["--denied"], ["bob", "dave", "alice", "bob", "carol"]),
        (["--since", "2026-01-05T12:02"], ["alice", "-", "bob", "carol"]),
        (["--since", "2026-01-05T13:02:00+01:00", "--until", "2026-01-05T12:03"], ["alice", "-"]),
        (["--until", "2026-01-05"], []),
        (["--subject", "alice", "--tenant", "acme", "--denied"], ["alice"]),
    ],
)
def test_records_are_chosen_by_what_they_say_and_told_by_time(
    logs: list[str], arguments: list[str], expected: list[str]
) -> None:
    assert subjects(logs, *arguments) == expected


def test_line_says_of_the_chunk_that_was_asked_for_whether_it_was_granted(logs: list[str]) -> None:
    said = [
        CliRunner().invoke(main, ["audit", *logs, "--chunk", chunk]).stdout.strip()
        for chunk in (LONG[11], LONG[10])
    ]
    assert (
        "resp_bob" in said[0],
        said[0].endswith(f"{LONG[11]}: granted"),
        said[1].endswith(f"{LONG[10]}: DENIED"),
    ) == (True, True, True)


def test_nothing_found_is_said_and_is_exit_code_1(logs: list[str]) -> None:
    done = CliRunner().invoke(main, ["audit", *logs, "--subject", "nobody"])
    assert (done.exit_code, done.stderr.startswith("regate: no such record in ")) == (1, True)


@pytest.mark.parametrize(
    "time", ["yesterday", "3x", "2026-13-01", "12:00", "999999999999d", "1000000d", "0001-01-01T00:00+05:00"]
)
def test_a_time_that_is_none_is_wrong_usage(logs: list[str], time: str) -> None:
    done = CliRunner().invoke(main, ["audit", *logs, "--since", time])
    assert (done.exit_code, "is no time: write 2026-11-29" in done.stderr) == (2, True)


async def test_reading_goes_on_where_it_was_over_new_segments_and_half_written_lines(tmp_path: Path) -> None:
    reader = AuditLogReader(tmp_path / "log")
    await write(tmp_path / "log", [found("bob", LONG, [0])] * 3, at=NOON, rotate_bytes=600)
    before = [record["seq"] for record in reader.more()]
    await write(tmp_path / "log", [found("bob", LONG, [0])] * 3, at=NOON, rotate_bytes=600)
    last = segments_in(tmp_path / "log")[-1]
    with last.open("ab") as file:
        file.write(b'{"seq":7,"at":"x",')
    between = list(reader.more())
    with last.open("ab") as file:
        file.write(b'"kind":"late"}\n')
    after = [record["seq"] for record in reader.more()]

    assert (
        len(segments_in(tmp_path / "log")) > 2,
        before,
        [record["seq"] for record in between],
        after,
    ) == (
        True,
        [1, 2, 3],
        [4, 5, 6],
        [7],
    )
    assert all(len(record["batch"]["chunks"]["asked"]) == 12 for record in between)


async def test_following_shows_what_is_recorded_from_then_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    await write(log, FIRST[:1], at=NOON)
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "regate_gateway",
            "audit",
            "--log",
            str(log),
            "--follow",
            "--json",
            "--file",
            "file-a",
        ),
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            first = json.loads(await process.stdout.readline())
            await write(log, [listed("erin", ["file-x"], [0]), FIRST[1]], at=NOON)
            second = json.loads(await process.stdout.readline())
    finally:
        process.kill()
        await process.communicate()

    assert (first["subject"], second["subject"]) == ("alice", "bob")
