"""The input of a request that is passed on, as far as guards let it through: what would be sent to the
upstream, with the texts of files in it.

The counterpart for `/v1/responses` is `regate_orchestrator.responses.context.guarding`; what comes back is
`guarded_answer.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, cast

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.concurrency import few_at_once
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.guards.arguments import tool_about
from regate_orchestrator.guards.checked import Checked
from regate_orchestrator.guards.checking import Guards
from regate_orchestrator.guards.places import Place, is_json, places_in_content, text_at, with_text
from regate_orchestrator.ports import GuardStep
from regate_orchestrator.responses.context.guarding import RESULT_BLOCKED
from regate_orchestrator.values import Json, JsonObject

_STEPS: Final[frozenset[GuardStep]] = frozenset({"input", "tool_result"})
_RESULTS: Final = ("tool", "function")
_TEXTS: Final = ("prompt", "input", "suffix")
"""Members of bodies without messages that hold texts."""
_CALLS: Final = (("function", "arguments"), ("custom", "input"))
_REASONING: Final = ("reasoning_content", "reasoning")


@dataclass(frozen=True, slots=True)
class _Unit:
    """Texts that are checked as one, since a model reads them as one."""

    step: GuardStep
    places: list[Place]
    name: str = ""


async def guard_body(guards: Guards, context: Context, body: dict[str, Json]) -> tuple[dict[str, Json], bool]:
    """Return the body without what is taken out, and whether the input is blocked: then it must not be sent.

    Raises as `Guards.check` does, and `InvalidRequest` for numbers of tokens, in which nobody can look.
    """
    if _STEPS.isdisjoint(guards.steps):
        return body, False
    units = list(_units(body, guards))
    texts = [[text_at(body, place) for place in unit.places] for unit in units]
    is_blocked = False
    sent: JsonObject = body
    for unit, pieces, fate in zip(units, texts, await _fates(guards, context, units, texts), strict=True):
        is_blocked = is_blocked or (fate.is_blocked and unit.step == "input")
        for place, before, after in zip(unit.places, pieces, _left(unit, pieces, fate), strict=True):
            if before != after:
                sent = with_text(
                    sent, place, "{}" if place[-1] == "arguments" and not is_json(after) else after
                )
    return dict(sent), is_blocked


async def _fates(
    guards: Guards, context: Context, units: Sequence[_Unit], texts: Sequence[Sequence[str]]
) -> list[Checked]:
    fates = [Checked()] * len(units)

    async def check(step: GuardStep) -> None:
        places = [place for place, unit in enumerate(units) if unit.step == step]
        about = [tool_about("function", units[place].name) for place in places]
        joined = ["".join(texts[place]) for place in places]
        checked = await guards.check(context, step, joined, about=about if step == "tool_result" else ())
        for place, fate in zip(places, checked, strict=True):
            fates[place] = fate

    await few_at_once([partial(check, step) for step in _STEPS], most=len(_STEPS))
    return fates


def _left(unit: _Unit, pieces: Sequence[str], fate: Checked) -> list[str]:
    left = fate.of_pieces(pieces)
    if fate.is_blocked and unit.step == "tool_result":
        left[0] = RESULT_BLOCKED
    return left


def _units(body: JsonObject, guards: Guards) -> Iterator[_Unit]:
    messages = cast("Sequence[Mapping[str, Json]]", body.get("messages") or ())
    for position, message in enumerate(messages):
        yield from _of_message(message, ("messages", position))
    for name in _TEXTS:
        value = body.get(name)
        if isinstance(value, str):
            yield _Unit("input", [(name,)])
        elif isinstance(value, list) and all(isinstance(one, str) for one in value):
            yield from (_Unit("input", [(name, position)]) for position in range(len(value)))
        elif value is not None and "input" in guards.steps:
            raise InvalidRequest(
                f"'{name}' must be a text, or several, and not numbers of tokens: a guard of this service "
                "looks at what is sent.",
                param=name,
                code="unsupported_parameter",
            )


def _of_message(message: Mapping[str, Json], at: Place) -> Iterator[_Unit]:
    step: GuardStep = "tool_result" if message.get("role") in _RESULTS else "input"
    content = list(places_in_content(message.get("content"), (*at, "content")))
    yield _Unit(step, content, str(message.get("name", "")))
    for name in ("refusal", *_REASONING):
        if isinstance(message.get(name), str):
            yield _Unit("input", [(*at, name)])
    calls = cast("Sequence[Mapping[str, Mapping[str, Json]]]", message.get("tool_calls") or ())
    for position, call in enumerate(calls):
        yield from (
            _Unit("input", [(*at, "tool_calls", position, kind, given)])
            for kind, given in _CALLS
            if kind in call
        )
    if isinstance(message.get("function_call"), Mapping):
        yield _Unit("input", [(*at, "function_call", "arguments")])
