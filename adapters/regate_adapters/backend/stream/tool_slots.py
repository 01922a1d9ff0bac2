"""Tool calls in a chat stream: which piece belongs to which call. Knows the habits of upstreams, and nothing
of the stream around the calls.

OpenAI numbers parallel calls by `index` and gives the id and the name once, in a call's first piece. Others
send index 0 for every call, no index, the id again in every piece, `null` for it later, no id at all, or a
call whole in one piece. The rules that fit them all:

- A piece belongs to the call at its index; without an index, to the call with its id, at its place among
  several, or to the last one.
- It opens another call there when it brings another id with a name, another name, or its name and arguments
  after a whole object.
- What is said again is not said twice: the same arguments once more, after they were whole, are those that
  were said.
- A call is announced once its name is known, and under a minted id where the upstream gave none, or gave one
  twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import orjson

from regate_orchestrator.model_events import ArgumentsWritten, CallOpened, ModelEvent
from regate_orchestrator.values import mint

_ID: Final = re.compile(r"[!-~]{1,256}")
_MAX_CALLS: Final = 256

_Place: TypeAlias = tuple[str, int]


class NotUnderstood(Exception):
    """The upstream's stream does not follow the protocol; the text says where, for the log."""


@dataclass(frozen=True, slots=True)
class _Piece:
    index: int | None
    id: str | None
    name: str | None
    arguments: str


@dataclass(slots=True)
class _Call:
    slot: int
    id: str | None = None
    name: str | None = None
    arguments: list[str] = field(default_factory=list)
    opened: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether the arguments so far are a complete JSON object."""
        return (
            any(piece.rstrip().endswith("}") for piece in self.arguments[-2:])
            and _object("".join(self.arguments)) is not None
        )

    def repeats(self, arguments: str) -> bool:
        """Return whether these are the arguments so far, which are whole, once more."""
        if not (self.arguments and arguments.lstrip().startswith("{") and self.is_whole):
            return False
        return _object(arguments) == _object("".join(self.arguments))


def _object(text: str) -> Mapping[str, object] | None:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


class ToolSlots:
    """The calls of one model turn, in the order in which they began."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._at: dict[_Place, _Call] = {}
        self._ids: set[str] = set()

    def __len__(self) -> int:
        return len(self._calls)

    def read(self, entries: object) -> list[ModelEvent]:
        """Return what a `tool_calls` member tells. Raises `NotUnderstood`."""
        if not isinstance(entries, list):
            raise NotUnderstood("tool_calls is not a list")
        events: list[ModelEvent] = []
        for position, entry in enumerate(entries):
            piece = _piece(entry)
            call = self._call_of(piece, position, entries, events)
            call.name = call.name or piece.name
            if not call.opened:
                call.id = call.id or piece.id
            self._write(call, piece.arguments, events)
        return events

    def close(self) -> list[ModelEvent]:
        """Return what is still to be told of calls at the turn's end. Raises `NotUnderstood` for
        arguments of a call that was never named.
        """
        events: list[ModelEvent] = []
        for call in self._calls:
            if call.name is None and "".join(call.arguments).strip():
                raise NotUnderstood("a tool call has arguments but no name")
            self._open(call, events)
        self._calls = [call for call in self._calls if call.opened]
        return events

    def _call_of(
        self, piece: _Piece, position: int, entries: Sequence[object], events: list[ModelEvent]
    ) -> _Call:
        place = _place(piece, position, len(entries))
        current = self._current(piece, place)
        if current is not None and not _opens_another(piece, current):
            return current
        for earlier in self._calls:  # a call is announced before the next one begins
            self._open(earlier, events)
        if len(self._calls) >= _MAX_CALLS:
            raise NotUnderstood(f"more than {_MAX_CALLS} tool calls")
        call = _Call(len(self._calls))
        self._calls.append(call)
        if place is not None:
            self._at[place] = call
        return call

    def _current(self, piece: _Piece, place: _Place | None) -> _Call | None:
        if place is not None and piece.index is not None:
            return self._at.get(place)
        if piece.id is not None:
            known = next((call for call in reversed(self._calls) if call.id == piece.id), None)
            if known is not None:
                return known
        if place is not None:
            return self._at.get(place)
        return self._calls[-1] if self._calls else None

    def _write(self, call: _Call, arguments: str, events: list[ModelEvent]) -> None:
        if arguments and call.repeats(arguments):
            arguments = ""
        if arguments:
            call.arguments.append(arguments)
        if call.opened:
            if arguments:
                events.append(ArgumentsWritten(call.slot, arguments))
        elif call.id is not None or call.arguments:  # before that, the id may still be on its way
            self._open(call, events)

    def _open(self, call: _Call, events: list[ModelEvent]) -> None:
        if call.opened or call.name is None:
            return
        call.opened = True
        usable = call.id is not None and _ID.fullmatch(call.id) is not None and call.id not in self._ids
        call_id = call.id if usable and call.id is not None else mint("call_")
        self._ids.add(call_id)
        events.append(CallOpened(call.slot, call_id, call.name))
        if text := "".join(call.arguments):
            events.append(ArgumentsWritten(call.slot, text))


def _place(piece: _Piece, position: int, count: int) -> _Place | None:
    if piece.index is not None:
        return "index", piece.index
    return ("position", position) if count > 1 else None


def _opens_another(piece: _Piece, current: _Call) -> bool:
    """Return whether the piece begins another call where `current` is."""
    if piece.id is not None and current.id is not None and piece.id != current.id:
        return piece.name is not None or current.is_whole
    if piece.name is None or current.name is None:
        return False
    if piece.id is not None and piece.name == current.name and current.repeats(piece.arguments):
        return False  # one and the same call, told whole at its end
    return piece.name != current.name or (bool(piece.arguments.strip()) and current.is_whole)


def _piece(entry: object) -> _Piece:
    if not isinstance(entry, Mapping):
        raise NotUnderstood("a tool call is not an object")
    function = entry.get("function")
    function = function if isinstance(function, Mapping) else {}
    index, identifier, name, arguments = (
        entry.get("index"),
        entry.get("id"),
        function.get("name"),
        function.get("arguments"),
    )
    if isinstance(arguments, Mapping):  # an object where the protocol has its text
        arguments = orjson.dumps(arguments).decode()
    if not isinstance(arguments, str | None):
        raise NotUnderstood("a tool call's arguments are not text")
    return _Piece(
        index=index if isinstance(index, int) and not isinstance(index, bool) else None,
        id=identifier if isinstance(identifier, str) and identifier else None,
        name=name if isinstance(name, str) and name else None,
        arguments=arguments or "",
    )
