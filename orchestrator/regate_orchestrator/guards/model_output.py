"""What a model writes, as far as guards let it through: the events of a model turn, some of them later and
with less in them.

Text leaves in windows (`windows.py`). Calls of the client's tools are answers too: they, and what comes after
them, leave when their arguments are whole. Calls of tools that run here pass: they are checked where they are
made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Container, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.guards.arguments import check_arguments, tool_about
from regate_orchestrator.guards.checked import Checked
from regate_orchestrator.guards.checking import Guards
from regate_orchestrator.guards.windows import Released, Windows, joined
from regate_orchestrator.model_events import (
    ArgumentsWritten,
    CallOpened,
    ModelEnded,
    ModelEvent,
    ModelFailed,
    ReasoningWritten,
    RefusalWritten,
    TextWritten,
    Usage,
)
from regate_orchestrator.ports import Backend, GuardStep
from regate_orchestrator.values import JsonObject

_STEPS: Final[frozenset[GuardStep]] = frozenset({"output", "tool_arguments"})
INPUT_REFUSAL: Final = "I cannot answer this: the input was blocked by a guard of this service."
OUTPUT_REFUSAL: Final = "The answer ends here: the rest was blocked by a guard of this service."

_Written: TypeAlias = TextWritten | ReasoningWritten | RefusalWritten


class GuardedOutput:
    """The events of one model turn that may leave. The last one is `ModelEnded` or `ModelFailed`, as of the
    events inside, unless these end without one.

    `unchecked` are the names of the tools whose calls pass, `types` say of what type others are that are no
    functions. Where something is blocked, a refusal takes the place of it and of all that follows, and the
    turn has ended with `content_filter`. Raises as `Guards.check` does. A class, not a generator: one that is
    abandoned half-way needs no closing of its own.
    """

    def __init__(
        self,
        events: AsyncIterator[ModelEvent],
        guards: Guards,
        context: Context,
        *,
        unchecked: Container[str],
        types: Mapping[str, str],
    ) -> None:
        self._events = events
        self._guards = guards
        self._context = context
        self._unchecked = unchecked
        self._types = types
        self._ready: deque[ModelEvent] = deque()
        self._held: list[ModelEvent] = []
        """From the first call on that is to be checked: it, and all that came since."""
        self._kind: type[_Written] = TextWritten
        self._windows: Windows | None = None
        self._has_ended = False

    def __aiter__(self) -> GuardedOutput:
        return self

    async def __anext__(self) -> ModelEvent:
        while not self._ready:
            if self._has_ended:
                raise StopAsyncIteration
            await self._take(await anext(self._events))
        return self._ready.popleft()

    async def _take(self, event: ModelEvent) -> None:
        match event:
            case ModelEnded(usage=usage):
                await self._release_all(usage)
                self._pass(event)
                self._has_ended = True
            case ModelFailed():
                await self._flush(Usage())
                self._pass(event)
                self._has_ended = True
            case CallOpened(name=name) if not self._held and self._is_checked(name):
                await self._flush(Usage())
                self._held.append(event)
            case _ if self._held:
                self._held.append(event)
            case _:
                await self._let_through(event, Usage())

    def _is_checked(self, name: str) -> bool:
        return "tool_arguments" in self._guards.steps and name not in self._unchecked

    async def _let_through(self, event: ModelEvent, usage: Usage) -> None:
        match event:
            case TextWritten() | ReasoningWritten() | RefusalWritten():
                if "output" not in self._guards.steps:
                    self._pass(event)
                else:
                    await self._write(event, usage)
            case CallOpened():
                await self._flush(usage)
                self._pass(event)
            case _:
                self._pass(event)

    async def _write(self, event: _Written, usage: Usage) -> None:
        if type(event) is not self._kind:
            await self._flush(usage)
            self._kind = type(event)
        if self._has_ended:
            return
        if self._windows is None:
            self._windows = Windows(self._check, self._guards.streaming)
        for text, beside in _by_token(event):
            released = await self._windows.write(text, beside)
            self._release(released, usage)
            if any(one.is_blocked for one in released):
                return

    async def _flush(self, usage: Usage) -> None:
        windows, self._windows = self._windows, None
        if windows is not None:
            self._release(await windows.end(), usage)

    def _release(self, released: Sequence[Released], usage: Usage) -> None:
        if not released:
            return
        one = joined(released)
        if one.text:
            self._pass(_written(self._kind, one.text, one.beside))
        if one.is_blocked:
            self._refuse(usage)

    async def _check(self, text: str) -> Checked:
        (checked,) = await self._guards.check(self._context, "output", [text])
        return checked

    async def _release_all(self, usage: Usage) -> None:
        """Let everything through that is held, calls with what may leave of their arguments."""
        await self._flush(usage)
        held, self._held = self._held, []
        for event in await self._with_checked_arguments(held, usage):
            if self._has_ended:
                return
            await self._let_through(event, usage)
        await self._flush(usage)

    async def _with_checked_arguments(self, held: Sequence[ModelEvent], usage: Usage) -> list[ModelEvent]:
        """Return the events with each call's arguments in one piece; none where those of one are blocked."""
        opened = [one for one in held if isinstance(one, CallOpened) and one.name not in self._unchecked]
        if not opened or self._has_ended:
            return list(held)
        pieces: dict[int, list[str]] = {call.slot: [] for call in opened}
        for event in held:
            if isinstance(event, ArgumentsWritten) and event.slot in pieces:
                pieces[event.slot].append(event.text)
        left = await check_arguments(
            self._guards,
            self._context,
            ["".join(pieces[call.slot]) for call in opened],
            about=[tool_about(self._types.get(call.name, "function"), call.name) for call in opened],
        )
        if None in left:
            self._refuse(usage)
            return []
        arguments = {call.slot: text or "" for call, text in zip(opened, left, strict=True)}
        events: list[ModelEvent] = []
        for event in held:
            if not (isinstance(event, ArgumentsWritten) and event.slot in arguments):
                events.append(event)
            if isinstance(event, CallOpened) and event.slot in arguments:
                events.append(ArgumentsWritten(event.slot, arguments[event.slot]))
        return events

    def _refuse(self, usage: Usage) -> None:
        self._pass(RefusalWritten(OUTPUT_REFUSAL))
        self._pass(ModelEnded("content_filter", usage))
        self._held = []
        self._has_ended = True

    def _pass(self, event: ModelEvent) -> None:
        if not self._has_ended:
            self._ready.append(event)


@dataclass(frozen=True, slots=True)
class GuardedBackend:
    """A backend of whose answers only what guards let through comes. `unchecked` are the names of tools that
    run here, `types` say of what type others are that are no functions.
    """

    inner: Backend
    guards: Guards
    context: Context
    unchecked: Container[str]
    types: Mapping[str, str]

    @asynccontextmanager
    async def chat(
        self, upstream: str, payload: JsonObject, *, alternates: Sequence[str] = ()
    ) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        """Open the call. See `ports.Backend.chat`."""
        async with self.inner.chat(upstream, payload, alternates=alternates) as events:
            if _STEPS.isdisjoint(self.guards.steps):
                yield events
            else:
                yield GuardedOutput(
                    events, self.guards, self.context, unchecked=self.unchecked, types=self.types
                )


class RefusingBackend:
    """The backend of a turn whose input was blocked: it calls nobody, and its model refuses."""

    @asynccontextmanager
    async def chat(
        self, upstream: str, payload: JsonObject, *, alternates: Sequence[str] = ()
    ) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        """Enter with a refusal. See `ports.Backend.chat`."""
        del upstream, payload, alternates
        yield _told([RefusalWritten(INPUT_REFUSAL), ModelEnded("stop", Usage())])


async def _told(events: Sequence[ModelEvent]) -> AsyncIterator[ModelEvent]:
    for event in events:
        yield event


def _by_token(event: _Written) -> list[tuple[str, tuple[JsonObject, ...]]]:
    """Return the text with what came beside it, token by token where it is known which belongs to which."""
    logprobs = event.logprobs if isinstance(event, TextWritten) else ()
    tokens = [str(one.get("token")) for one in logprobs]
    if len(tokens) < 2 or "".join(tokens) != event.text:
        return [(event.text, logprobs)]
    return [(token, (one,)) for token, one in zip(tokens, logprobs, strict=True)]


def _written(kind: type[_Written], text: str, beside: tuple[JsonObject, ...]) -> ModelEvent:
    return TextWritten(text, beside) if kind is TextWritten else kind(text)
