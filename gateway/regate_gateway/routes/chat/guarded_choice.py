"""One choice of an answer that passes through, as far as guards let it through: plain, or as it is streamed.

Of a choice only these members pass: the role, texts, calls of tools, log probabilities and how it ended. What
is blocked is answered as by OpenAI's content filter, with a refusal beside it where there is a message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.guards.arguments import check_arguments, tool_about
from regate_orchestrator.guards.checked import Checked
from regate_orchestrator.guards.checking import Guards
from regate_orchestrator.guards.model_output import OUTPUT_REFUSAL
from regate_orchestrator.guards.windows import Released, Windows, joined
from regate_orchestrator.values import Json, JsonObject

CONTENT_FILTER: Final = "content_filter"
_REASONING: Final = ("reasoning_content", "reasoning")
_ANSWER: Final = ("content", "refusal")
_GIVEN: Final = {"function": "arguments", "custom": "input"}

Said = dict[str, Json]


class ChoiceGuard:
    """A choice that is streamed. Each piece that may leave is a choice of an event, but for its index."""

    def __init__(self, guards: Guards, context: Context) -> None:
        self._guards = guards
        self._context = context
        self._texts: dict[str, Windows] = {}
        self._calls = _Calls()
        self._in_text = False
        """Whether it is a completion of a text, and not a message."""
        self.is_blocked = False

    async def take(self, choice: Mapping[str, Any]) -> list[Said]:
        """Return what may leave now that this has come."""
        if self.is_blocked:
            return []
        said: list[Said] = []
        if "text" in choice:
            self._in_text = True
            said += await self._write("text", _text(choice["text"]), ())
        delta = choice.get("delta")
        if isinstance(delta, dict):
            said += await self._take_delta(delta, choice.get("logprobs"))
        reason = choice.get("finish_reason")
        return said + await self.end(reason) if reason is not None and not self.is_blocked else said

    async def end(self, reason: str | None) -> list[Said]:
        """Return what may leave of the rest, with how the choice ended where that was said."""
        said = await self._flush(*list(self._texts))
        if not self.is_blocked and self._calls.is_held:
            left = await self._calls.checked(self._guards, self._context)
            said += self._blocked() if left is None else [self._piece(left)]
        if reason is not None and not self.is_blocked:
            said.append({**self._piece({}), "finish_reason": reason})
        return said

    async def _take_delta(self, delta: Mapping[str, Any], logprobs: Any) -> list[Said]:
        said: list[Said] = [self._piece({"role": delta["role"]})] if "role" in delta else []
        for name in (*_REASONING, *_ANSWER):
            if (text := _text(delta.get(name))) and not self.is_blocked:
                others = _ANSWER if name in _REASONING else _REASONING
                said += await self._flush(*others)
                said += await self._write(name, text, _beside(logprobs, name))
        calls = {name: delta[name] for name in ("tool_calls", "function_call") if delta.get(name)}
        if calls and not self.is_blocked:
            said += await self._flush(*list(self._texts))
            if "tool_arguments" in self._guards.steps:
                self._calls.add(calls)
            elif not self.is_blocked:
                said.append(self._piece(calls))
        return said

    async def _write(self, name: str, text: str, beside: tuple[JsonObject, ...]) -> list[Said]:
        if not text:
            return []
        if "output" not in self._guards.steps:
            return [self._released(name, Released(text, beside))]
        windows = self._texts.get(name)
        if windows is None:
            windows = self._texts[name] = Windows(self._check, self._guards.streaming)
        return self._let_go(name, await windows.write(text, beside))

    async def _flush(self, *names: str) -> list[Said]:
        said: list[Said] = []
        for name in names:
            windows = self._texts.pop(name, None)
            if windows is not None and not self.is_blocked:
                said += self._let_go(name, await windows.end())
        return said

    def _let_go(self, name: str, released: Sequence[Released]) -> list[Said]:
        if not released:
            return []
        one = joined(released)
        said = [self._released(name, one)] if one.text else []
        return said + self._blocked() if one.is_blocked else said

    def _released(self, name: str, released: Released) -> Said:
        said = self._piece({name: released.text})
        return {**said, "logprobs": {name: list(released.beside)}} if released.beside else said

    def _blocked(self) -> list[Said]:
        self.is_blocked = True
        last = {"text": ""} if self._in_text else {"refusal": OUTPUT_REFUSAL}
        return [self._piece(last), {**self._piece({}), "finish_reason": CONTENT_FILTER}]

    def _piece(self, members: Mapping[str, Json]) -> Said:
        written: Said = {"text": members.get("text", "")} if self._in_text else {"delta": dict(members)}
        return {**written, "finish_reason": None}

    async def _check(self, text: str) -> Checked:
        (checked,) = await self._guards.check(self._context, "output", [text])
        return checked


class _Calls:
    """The calls of a choice, put together of their pieces."""

    def __init__(self) -> None:
        self._calls: dict[int, dict[str, Any]] = {}
        self._function: dict[str, Any] | None = None

    @property
    def is_held(self) -> bool:
        return bool(self._calls) or self._function is not None

    def add(self, members: Mapping[str, Any]) -> None:
        calls = members.get("tool_calls")
        for position, piece in enumerate(calls if isinstance(calls, list) else ()):
            index = piece.get("index")
            call = self._calls.setdefault(index if isinstance(index, int) else position, {})
            _join(call, piece)
        if isinstance(function := members.get("function_call"), dict):
            self._function = self._function or {}
            _join(self._function, function)

    async def checked(self, guards: Guards, context: Context) -> Said | None:
        """Return the calls with what may leave of their arguments; None where those of one are blocked."""
        calls = [{"index": index, **call} for index, call in sorted(self._calls.items())]
        left = await checked_calls(calls, self._function, guards, context)
        self._calls, self._function = {}, None
        return left


def _join(into: dict[str, Any], piece: Mapping[str, Any]) -> None:
    for name, value in piece.items():
        if name in ("arguments", "input") and isinstance(value, str):
            into[name] = into.get(name, "") + value
        elif isinstance(value, dict):
            _join(into.setdefault(name, {}), value)
        elif value is not None and name in ("id", "type", "name"):
            into[name] = value


# ---------------------------------------------------------------- plain answers


async def guarded_choices(choices: Any, guards: Guards, context: Context) -> list[Said]:
    """Return the choices of a plain answer as far as they may leave. Raises as `Guards.check` does."""
    return [
        await _guarded_choice(choice, guards, context)
        for choice in (choices if isinstance(choices, list) else ())
        if isinstance(choice, dict)
    ]


async def _guarded_choice(choice: Mapping[str, Any], guards: Guards, context: Context) -> Said:
    message = choice.get("message")
    is_message = isinstance(message, dict)
    held = message if isinstance(message, dict) else {"text": choice.get("text")}
    names = [name for name in (*_REASONING, *_ANSWER, "text") if _text(held.get(name))]
    fates = await guards.check(context, "output", [_text(held[name]) for name in names])
    calls = [call for call in held.get("tool_calls") or () if isinstance(call, dict)]
    function = held.get("function_call")
    left = await checked_calls(calls, function if isinstance(function, dict) else None, guards, context)
    head: Said = {"index": choice.get("index") or 0, "finish_reason": choice.get("finish_reason")}
    if left is None or any(fate.is_blocked for fate in fates):
        refusal: Said = {"role": "assistant", "content": None, "refusal": OUTPUT_REFUSAL}
        blocked: Said = {"message": refusal} if is_message else {"text": ""}
        return {**head, **blocked, "logprobs": None, "finish_reason": CONTENT_FILTER}
    texts = {name: fate.of(_text(held[name])) for name, fate in zip(names, fates, strict=True)}
    is_whole = not any(fate.cuts for fate in fates)
    logprobs = choice.get("logprobs") if is_whole else None
    if not is_message:
        return {**head, "text": "", **texts, "logprobs": logprobs}
    said: Said = {"role": held.get("role", "assistant"), "content": None, "refusal": None, **texts, **left}
    return {**head, "message": said, "logprobs": logprobs}


async def checked_calls(
    calls: Sequence[Mapping[str, Any]], function: Mapping[str, Any] | None, guards: Guards, context: Context
) -> Said | None:
    """Return the members of a message that are calls, with what may leave of their arguments; None where
    those of one are blocked.
    """
    found = [(call, kind) for call in calls for kind in _GIVEN if isinstance(call.get(kind), dict)]
    named = [call[kind] for call, kind in found] + ([] if function is None else [function])
    given = [_GIVEN[kind] for _, kind in found] + ([] if function is None else ["arguments"])
    left = await check_arguments(
        guards,
        context,
        [_text(one.get(name)) for one, name in zip(named, given, strict=True)],
        about=[tool_about("function", str(one.get("name", ""))) for one in named],
    )
    if None in left:
        return None
    whole = [{**one, name: text} for one, name, text in zip(named, given, left, strict=True)]
    said: Said = {}
    if found:
        said["tool_calls"] = [{**call, kind: one} for (call, kind), one in zip(found, whole, strict=False)]
    return said if function is None else {**said, "function_call": whole[-1]}


def _text(value: Any) -> str:
    """Return a text, or the texts of parts as one."""
    if isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else ()
    return "".join(
        part if isinstance(part, str) else _text(part.get("text"))
        for part in parts
        if isinstance(part, str | dict)
    )


def _beside(logprobs: Any, name: str) -> tuple[JsonObject, ...]:
    found = logprobs.get(name) if isinstance(logprobs, dict) else None
    return tuple(one for one in found if isinstance(one, dict)) if isinstance(found, list) else ()
