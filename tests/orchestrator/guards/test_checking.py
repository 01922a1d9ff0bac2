"""Checking: who is asked what, what is recorded, and what follows where a guard or policy says nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from tests.orchestrator.scripted import CONTEXT, Policy, Records

from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.errors import GuardUnavailable, PolicyUnavailable
from regate_orchestrator.guards.checking import Guard, Guards
from regate_orchestrator.ports import Findings, GuardStep, Span

ACTION = "regate/guard/action"


class Saying:
    """A guard that says the same of every text."""

    def __init__(self, findings: Findings | None = None, *, late: bool = False) -> None:
        self.findings = findings
        self.late = late
        self.seen: list[str] = []

    async def look(self, texts: Sequence[str], *, step: GuardStep) -> list[Findings]:
        self.seen += texts
        if self.late:
            await asyncio.Event().wait()
        if self.findings is None:
            raise GuardUnavailable("away")
        return [self.findings for _ in texts]


def guard(name: str, provider: Saying, *, deadline_s: float = 5, may_be_missing: bool = False) -> Guard:
    return Guard(name, provider, frozenset({"input"}), deadline_s, may_be_missing)


def guards_of(policy: Policy, audit: Records, *guards: Guard, key: bytes = b"k") -> Guards:
    return Guards(Enforcer(policy, audit, {}), guards, key=key)


async def test_nobody_is_asked_at_a_step_without_a_guard() -> None:
    policy, audit, one = Policy(), Records(), Saying(Findings())
    guards = guards_of(policy, audit, guard("one", one))

    checked = await guards.check(CONTEXT, "output", ["text"])

    assert [fate.action for fate in checked] == ["pass"]
    assert (policy.asked, audit.written, one.seen) == ([], [], [])


async def test_what_several_guards_say_is_one_question_for_all_texts_of_which_they_say_the_same() -> None:
    policy, audit = Policy(answers={ACTION: "pass"}), Records()
    one = Saying(Findings({"a": 0.2, "b": 0.9}, frozenset({"x"}), (Span(0, 2, "x"),)))
    other = Saying(Findings({"a": 0.5}, frozenset({"y"})))
    guards = guards_of(policy, audit, guard("one", one), guard("other", other))

    await guards.check(CONTEXT, "input", ["first text", " ", "second text"])

    (asked,) = [document for rule, document in policy.asked if rule == ACTION]
    assert {name: asked[name] for name in ("step", "scores", "labels", "spans", "unavailable")} == {
        "step": "input",
        "scores": {"a": 0.5, "b": 0.9},
        "labels": ["x", "y"],
        "spans": {"x": 1},
        "unavailable": [],
    }
    assert one.seen == ["first text", "second text"]
    (record,) = audit.written
    assert "text" not in json.dumps(record)
    assert [len(digests) for digests in record["digests"]] == [2]  # type: ignore[union-attr, arg-type]


async def test_digests_are_of_the_text_and_of_the_key() -> None:
    digests = []
    for key, text in ((b"k", "text"), (b"k", "text"), (b"k", "other"), (b"other", "text")):
        audit = Records()
        guards = guards_of(Policy(answers={ACTION: "pass"}), audit, guard("one", Saying(Findings())), key=key)
        await guards.check(CONTEXT, "input", [text])
        digests.append(json.dumps(audit.written[0]["digests"]))

    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize("provider", [Saying(None), Saying(Findings(), late=True)], ids=["away", "late"])
async def test_guard_without_an_answer_keeps_the_text_unless_it_may_be_missing(provider: Saying) -> None:
    policy = Policy(answers={ACTION: "pass"})
    strict = guards_of(policy, Records(), guard("one", provider, deadline_s=0.01))
    lenient = guards_of(policy, Records(), guard("one", provider, deadline_s=0.01, may_be_missing=True))

    with pytest.raises(GuardUnavailable):
        await strict.check(CONTEXT, "input", ["text"])
    assert policy.asked == []
    await lenient.check(CONTEXT, "input", ["text"])
    assert policy.asked[0][1]["unavailable"] == ["one"]


@pytest.mark.parametrize("said", ["allow", True, None, ["pass"], {"action": "pass"}, ""])
async def test_answer_of_a_policy_that_is_no_action_lets_nothing_through(said: Any) -> None:
    guards = guards_of(Policy(answers={ACTION: said}), Records(), guard("one", Saying(Findings())))

    with pytest.raises(PolicyUnavailable):
        await guards.check(CONTEXT, "input", ["text"])


async def test_undefined_action_blocks() -> None:
    guards = guards_of(Policy(), Records(), guard("one", Saying(Findings())))

    (checked,) = await guards.check(CONTEXT, "input", ["text"])

    assert checked.is_blocked


NAMES: dict[str, tuple[list[str], str]] = {
    "a name with places": (["x"], "[redacted: x] cd"),
    "another name": (["y"], "ab [redacted: y]"),
    "both": (["x", "y"], "[redacted: x] [redacted: y]"),
    "a name without a place": (["z"], "[redacted: z]"),
    "names of which one has no place": (["x", "z"], "[redacted]"),
    "no name": ([], "[redacted]"),
}


@pytest.mark.parametrize("name", NAMES)
async def test_what_the_policy_names_is_taken_out_and_all_where_it_has_no_place(name: str) -> None:
    names, left = NAMES[name]
    policy = Policy(answers={ACTION: "redact", "regate/guard/redact": names, "regate/guard/deny_reasons": []})
    found = Findings({"z": 1.0}, frozenset({"x", "y"}), (Span(0, 2, "x"), Span(3, 5, "y")))
    guards = guards_of(policy, Records(), guard("one", Saying(found)))

    (checked,) = await guards.check(CONTEXT, "input", ["ab cd"])

    assert checked.of("ab cd") == left
