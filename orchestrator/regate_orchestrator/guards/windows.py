"""Text that is still being written, checked in windows before it leaves.

A window is checked when all of it and the overlap after it are there, with the overlap before it in view. So
what is checked, and what leaves, depends on the text alone and never on the pieces in which it comes, and no
more than a window and an overlap is held back. A place belongs to the window in which it begins.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from regate_orchestrator.guards.checked import Checked, marker
from regate_orchestrator.guards.checking import Streaming
from regate_orchestrator.values import JsonObject

_MAX_CONTEXT: Final = 16_384
"""How far back a place that goes on is kept in view, so that its end is known for one."""

Check: TypeAlias = Callable[[str], Awaitable[Checked]]


@dataclass(frozen=True, slots=True)
class Released:
    """A piece of text that may leave, with what came beside it (log probabilities); or the word that nothing
    more may.
    """

    text: str = ""
    beside: tuple[JsonObject, ...] = ()
    is_blocked: bool = False


@dataclass(slots=True)
class _Piece:
    """Where a piece of the text lies, and what came beside it; nothing once a part of it was taken out."""

    start: int
    end: int
    beside: tuple[JsonObject, ...]


class Windows:
    """One text. `check` is asked about each window with what is in view around it.

    Positions are those in the whole text.
    """

    def __init__(self, check: Check, streaming: Streaming) -> None:
        self._check = check
        self._size, self._overlap = streaming.window, streaming.overlap
        self._kept = ""
        self._kept_from = 0
        self._next = 0
        """Where the next window begins: all before it has left."""
        self._hidden = 0
        """Up to where the text was taken out."""
        self._pieces: list[_Piece] = []

    async def write(self, piece: str, beside: tuple[JsonObject, ...] = ()) -> list[Released]:
        """Return what may leave now that this piece is there."""
        start = self._length
        self._kept += piece
        if beside:
            self._pieces.append(_Piece(start, self._length, beside))
        released: list[Released] = []
        while self._length >= self._next + self._size + self._overlap:
            released.append(await self._window(self._next + self._size))
            if released[-1].is_blocked:
                break
        return released

    async def end(self) -> list[Released]:
        """Return what may leave of the rest, since nothing more comes."""
        return [] if self._next == self._length else [await self._window(self._length)]

    @property
    def _length(self) -> int:
        return self._kept_from + len(self._kept)

    async def _window(self, stop: int) -> Released:
        start, view_end = self._next, min(stop + self._overlap, self._length)
        view = self._kept[: view_end - self._kept_from]
        checked = await self._check(view)
        if checked.is_blocked:
            return Released(is_blocked=True)
        text, back_to = self._cut(checked, start, stop)
        released = Released(text, self._beside(stop))
        self._next = stop
        self._forget(max(min(stop - self._overlap, back_to), stop - _MAX_CONTEXT, self._kept_from))
        return released

    def _cut(self, checked: Checked, start: int, stop: int) -> tuple[str, int]:
        """Return what may leave of the window, and from where a place that goes on after it must stay in
        view.
        """
        kept: list[str] = []
        at, back_to = max(start, self._hidden), stop
        self._touch(start, min(self._hidden, stop))
        for cut in checked.cuts:
            first, end = cut.start + self._kept_from, cut.end + self._kept_from
            if checked.is_whole:
                first, end = start, stop
            if end <= start or first >= stop:
                continue
            if end > stop:
                back_to = min(back_to, first)
            first = max(first, start)
            goes_on = first < self._hidden or (checked.is_whole and first == self._hidden > 0)
            if not goes_on:
                kept += [self._between(at, first), marker(cut.name)]
            self._hidden = max(self._hidden, end)
            at = max(at, self._hidden)
            self._touch(first, end)
        kept.append(self._between(at, stop))
        return "".join(kept), back_to

    def _between(self, start: int, stop: int) -> str:
        return self._kept[start - self._kept_from : stop - self._kept_from] if start < stop else ""

    def _touch(self, start: int, end: int) -> None:
        """Forget what came beside each piece of which a part was taken out: it would tell it."""
        for piece in self._pieces:
            if piece.start < end and start < piece.end:
                piece.beside = ()

    def _beside(self, stop: int) -> tuple[JsonObject, ...]:
        """Return what came beside the pieces that have left whole."""
        left = [piece for piece in self._pieces if piece.end <= stop]
        self._pieces = self._pieces[len(left) :]
        return tuple(one for piece in left for one in piece.beside)

    def _forget(self, before: int) -> None:
        self._kept = self._kept[before - self._kept_from :]
        self._kept_from = before


def joined(released: Sequence[Released]) -> Released:
    """Return several releases as one."""
    if len(released) == 1:
        return released[0]
    return Released(
        "".join(one.text for one in released),
        tuple(beside for one in released for beside in one.beside),
        any(one.is_blocked for one in released),
    )
