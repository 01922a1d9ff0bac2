"""The story of an answer: what its records say of who asked, what made it, and what was withheld; whatever
kinds of records there are.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from regate_adapters.audit.log import SegmentedAuditLog
from regate_gateway.cli.main import main
from regate_gateway.telemetry.audit_story import Withheld, story_of

BY = {"provider": "keys", "kind": "api_key", "credential": "rgk_1"}
ASKED = {"asked_as": {"id": "alice", "teams": ["hr"]}, "authentication": BY}
WHO = {"tenant": "acme", "subject": "alice", "revision": "r1", **ASKED}
CHUNKS = [f"acme/file-{name}/e/00000{number}" for name in "ab" for number in range(2)]


def record(phase: str, *, kind: str = "decisions", request: str = "req_1", **more: Any) -> dict[str, Any]:
    return {"kind": kind, "phase": phase, "request_id": request, "response_id": "resp_1", **WHO, **more}


def decision(point: str, about: str, *, allowed: bool = True, **more: Any) -> dict[str, Any]:
    reasons = {} if allowed else {"reasons": ["because"]}
    entry = {"id": "dec_1", "point": point, "rule": f"regate/{point}/allow", "action": point, "about": about}
    return {**entry, "allowed": allowed, **reasons, **more}


def batch(chunks: int, admitted: list[int], stores: dict[str, bool]) -> dict[str, Any]:
    return {
        "stores": {
            "asked": {store: {} for store in stores},
            "admitted": [one for one in stores if stores[one]],
        },
        "chunks": {"asked": [{"store": "vs_1"}] * chunks, "admitted": admitted},
    }


FOUND = record(
    "chunk.read",
    batch=batch(4, [0, 1, 2], {"vs_1": True, "vs_2": False}),
    retrieval={"store": "vs_1", "total": 9, "permitted": 7, "returned": 4, "chunks": CHUNKS},
)
LOST = record("context", batch=batch(3, [0, 2], {"vs_1": True}), chunks=CHUNKS[:3])


@pytest.mark.parametrize(
    ("records", "made_of"),
    [
        ([record("turn", decisions=[decision("route", "small")])], {"models": ("small",)}),
        ([record("turn", decisions=[decision("route", "small", allowed=False)])], {"models": ()}),
        ([FOUND], {"chunks": tuple(CHUNKS[:3]), "files": {"file-a": 2, "file-b": 1}, "stores": ("vs_1",)}),
        ([FOUND, LOST], {"chunks": (CHUNKS[0], CHUNKS[2]), "files": {"file-a": 1, "file-b": 1}}),
        ([FOUND, record("chunk.denied", kind="denied", chunks=CHUNKS[:2])], {"chunks": (CHUNKS[2],)}),
        ([record("turn", decisions=[decision("file", "file-m")])], {"files": {"file-m": 0}}),
        ([record("turn", decisions=[decision("file", "file-m", allowed=False)])], {"files": {}}),
        (
            [record("tool.call", decisions=[decision("tool", "file_search")])] * 2,
            {"tools": {"file_search": 2}},
        ),
        (
            [
                record(
                    "tool.call",
                    decisions=[
                        decision("tool", "crm.read", resource={"tool": {"server_label": "crm"}}),
                        decision(
                            "tool", "crm.write", resource={"tool": {"server_label": "crm"}}, allowed=False
                        ),
                    ],
                )
            ],
            {"tools": {"crm.read": 1}, "servers": ("crm",)},
        ),
        ([record("tool.ran", kind="tool.ran", about="x", server="wiki", size=4)], {"servers": ("wiki",)}),
        (
            [record("egress", decisions=[decision("egress", "api.example.com")])],
            {"destinations": ("api.example.com",)},
        ),
    ],
)
def test_ingredients_are_what_the_last_decision_on_each_let_in(
    records: list[dict[str, Any]], made_of: dict[str, Any]
) -> None:
    told = story_of("resp_1", records).made_of

    assert {name: getattr(told, name) for name in made_of} == made_of


@pytest.mark.parametrize(
    ("last", "withheld"),
    [
        (record("guard", decisions=[decision("guard", "output", allowed=False)]), "guard output"),
        (record("tool.result", decisions=[decision("tool.result", "x", allowed=False)]), "tool.result x"),
        (
            record("egress", decisions=[decision("egress", "api.example.com", allowed=False)]),
            "egress api.example.com",
        ),
        (
            record("history.withheld", kind="withheld", count=2, on_deny="redact"),
            "2 items of the conversation (redact)",
        ),
        (record("tool.refused", kind="refused", about="x", reasons=["because"]), "x"),
        (record("chunk.denied", kind="denied", chunks=CHUNKS[:1]), CHUNKS[0]),
        (FOUND, "1 chunks, decided in chunk.read"),
        (FOUND, "1 stores, decided in chunk.read"),
        (FOUND, "2 chunks of vs_1, left out by the filter"),
    ],
)
def test_whatever_was_kept_out_is_told_with_its_reasons(last: dict[str, Any], withheld: str) -> None:
    told = story_of("resp_1", [{**record("turn"), "seq": 1}, {**last, "seq": 2}]).withheld
    denied = any("because" in json.dumps(last.get(name, [])) for name in ("reasons", "decisions"))

    assert Withheld(withheld, 2, ("because",) if denied else ()) in told


@pytest.mark.parametrize("kind", ["tool.ran", "approval", "guard", "not-thought-of-yet"])
def test_kinds_of_records_that_are_not_known_are_told_with_all_that_they_hold(kind: str) -> None:
    (request,) = story_of("resp_1", [record(kind, kind=kind, outcome="fine", size=7)]).requests

    assert (request.steps[0].kind, request.steps[0].notes) == (kind, {"outcome": "fine", "size": 7})


def test_an_answer_that_was_read_later_is_told_as_another_request() -> None:
    later = record(
        "response.read", request="req_2", decisions=[decision("response", "resp_1", allowed=False)]
    )
    story = story_of("resp_1", [record("turn"), later | {"subject": "bob"}])

    assert [(request.request_id, request.subject) for request in story.requests] == [
        ("req_1", "alice"),
        ("req_2", "bob"),
    ]
    assert story.withheld == ()  # what bob was refused is not the answer's


async def write(directory: Path, *records: dict[str, Any]) -> list[str]:
    async with SegmentedAuditLog.open(directory, durable=False) as log:
        for one in records:
            await log.record(one)
    return ["--log", str(directory)]


def test_story_is_for_a_person_and_with_json_for_a_program(tmp_path: Path) -> None:
    before = {"kind": "identity", "request_id": "req_1", "note": "of the request, before it had a response"}
    log = asyncio.run(
        write(tmp_path, before, FOUND, LOST, record("turn", request="req_9", response_id="resp_9"))
    )
    person = CliRunner().invoke(main, ["audit", "show", *log, "resp_1"])
    program = json.loads(CliRunner().invoke(main, ["audit", "show", *log, "resp_1", "--json"]).stdout)

    assert person.exit_code == 0
    for said in (
        "alice@acme (teams: hr)",
        "by       keys (api_key), credential rgk_1",
        "revision r1",
        "file-a: 1 chunks",
        "req_1",
        "of the request, before",
    ):
        assert said in person.stdout
    assert "resp_9" not in person.stdout
    assert [step["seq"] for step in program["requests"][0]["steps"]] == [1, 2, 3]


def test_a_request_that_came_to_no_answer_has_a_story_too(tmp_path: Path) -> None:
    refused = record("turn", decisions=[decision("route", "large", allowed=False)])
    log = asyncio.run(write(tmp_path, refused))
    done = CliRunner().invoke(main, ["audit", "show", *log, "req_1"])

    assert (done.exit_code, "DENY: because  route large  regate/route/allow" in done.stdout) == (0, True)


def test_what_a_client_named_cannot_command_the_terminal(tmp_path: Path) -> None:
    log = asyncio.run(write(tmp_path, record("tool.call", decisions=[decision("tool", "\x1b[2J\u202eevil")])))
    shown = [CliRunner().invoke(main, ["audit", *words]).stdout for words in (["show", *log, "resp_1"], log)]

    assert all("evil" in text for text in shown)
    assert not any("\x1b" in text or "\u202e" in text for text in shown)


@pytest.mark.parametrize(("about", "code"), [("resp_none", 1), ("req_none", 1), ("alice", 2)])
def test_what_has_no_record_is_said(tmp_path: Path, about: str, code: int) -> None:
    log = asyncio.run(write(tmp_path, record("turn")))

    assert CliRunner().invoke(main, ["audit", "show", *log, about]).exit_code == code
