"""Conditions on a row's marks: the whole of what a marked engine must be able to ask. `filter.py`, the
counterpart, makes them of expressions; each engine writes them in its own words.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias, assert_never


@dataclass(frozen=True, slots=True)
class Has:
    """The row has at least one of these marks; there is at least one."""

    marks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lacks:
    """The row has none of these marks: the exact complement of `Has`."""

    marks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class All:
    """All parts hold; there are at least two."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """Some part holds; there are at least two."""

    parts: tuple[Tree, ...]


Tree: TypeAlias = bool | Has | Lacks | All | Some
"""A condition; a constant stands alone only, never below another node."""


def complement(tree: Tree) -> Tree:
    """Return the tree that holds exactly where this one does not."""
    match tree:
        case bool():
            return not tree
        case Has(marks):
            return Lacks(marks)
        case Lacks(marks):
            return Has(marks)
        case All(parts):
            return any_of(complement(part) for part in parts)
        case Some(parts):
            return all_of(complement(part) for part in parts)
        case _:
            assert_never(tree)


def all_of(parts: Iterable[Tree]) -> Tree:
    """Return the tree of which all parts must hold, with one `Lacks` for all marks that it must not have."""
    flat = _flat(parts, All, absorbing=False)
    if flat is None:
        return False
    lacking = tuple(dict.fromkeys(mark for part in flat if isinstance(part, Lacks) for mark in part.marks))
    merged = [part for part in flat if not isinstance(part, Lacks)] + ([Lacks(lacking)] if lacking else [])
    return merged[0] if len(merged) == 1 else All(tuple(merged)) if merged else True


def any_of(parts: Iterable[Tree]) -> Tree:
    """Return the tree of which any part must hold, with one `Has` for all marks of which one suffices."""
    flat = _flat(parts, Some, absorbing=True)
    if flat is None:
        return True
    having = tuple(dict.fromkeys(mark for part in flat if isinstance(part, Has) for mark in part.marks))
    merged = ([Has(having)] if having else []) + [part for part in flat if not isinstance(part, Has)]
    return merged[0] if len(merged) == 1 else Some(tuple(merged)) if merged else False


def measured(tree: Tree) -> tuple[int, int]:
    """Return how many marks the tree names and how deep it is."""
    match tree:
        case Has(marks) | Lacks(marks):
            return len(marks), 1
        case All(parts) | Some(parts):
            counts, depths = zip(*map(measured, parts), strict=True)
            return sum(counts), 1 + max(depths)
        case _:
            return 0, 1


def conditions_of(tree: Tree) -> int:
    """Return how many conditions on marks the tree is made of, however many marks each names."""
    match tree:
        case Has() | Lacks():
            return 1
        case All(parts) | Some(parts):
            return sum(map(conditions_of, parts))
        case _:
            return 0


def _flat(parts: Iterable[Tree], kind: type[All] | type[Some], *, absorbing: bool) -> list[Tree] | None:
    """Return the parts without constants, duplicates and nesting; None when one of them decides the whole."""
    pieces: dict[Tree, None] = {}
    for part in parts:
        if isinstance(part, bool):
            if part is absorbing:
                return None
            continue
        for piece in part.parts if isinstance(part, kind) else (part,):
            pieces.setdefault(piece)
    return list(pieces)
