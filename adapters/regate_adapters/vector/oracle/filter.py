"""Conditions on marks as Oracle's SQL. No IO. The counterpart is `marked/filter.py`, which says what is
asked.

A mark is a row of its own, and the condition asks whether there is one. `NOT EXISTS` is the exact complement
of `EXISTS`: neither is ever unknown. No value stands in a statement: each is bound.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final, assert_never

from regate_adapters.vector.marked.filter import Limits
from regate_adapters.vector.marked.tree import All, Has, Lacks, Some, Tree

MOST_CONDITIONS: Final = 1_000
"""Each is a subquery, which the optimizer considers. Not measured."""
LIMITS: Final = Limits(most_conditions=MOST_CONDITIONS)

_IN_ONE_LIST: Final = 1_000
"""Of so many expressions a list may be in every version; of more it must be several."""


@dataclass(slots=True)
class Binds:
    """The values of a statement, by the names under which it has them. Equal values share a name."""

    values: dict[str, object] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)

    def mark(self, mark: str) -> str:
        """Return the placeholder of a mark."""
        name = self._names.setdefault(mark, f"m{len(self._names) + 1}")
        self.values[name] = mark
        return f":{name}"

    def named(self, name: str, value: object) -> str:
        """Return the placeholder of a value with a name of its own, which begins with `b_`."""
        self.values[name] = value
        return f":{name}"


def where_clause(tree: Tree, binds: Binds, *, store: str, tenant: str | None = None) -> str:
    """Return the condition on rows `c` of this store, and of this tenant where one is named.

    The outermost part is a conjunction, so that no precedence of the rest can widen it.
    """
    parts = [f"c.store_key = {binds.named('b_store', key_of(store))}"]
    if tenant is not None:
        parts.append(f"c.tenant_key = {binds.named('b_tenant', key_of(tenant))}")
    if tree is not True:
        parts.append(f"({_condition(tree, binds)})")
    return " AND ".join(parts)


def key_of(name: str) -> str:
    """Return what stands for a store or a tenant in its column: a digest, since a tenant may be any string,
    and an empty one is NULL in Oracle.
    """
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:30]


def row_key_of(identifier: str) -> str:
    """Return what stands for a chunk's id in a key."""
    return hashlib.sha256(identifier.encode(errors="surrogatepass")).hexdigest()[:40]


def reach_of(store: str, tenant: str | None) -> str:
    """Return the client identifier by which a session says what it may reach (`wall.sql`): at most 61 of 64
    bytes.
    """
    return key_of(store) if tenant is None else f"{key_of(store)}:{key_of(tenant)}"


def _condition(tree: Tree, binds: Binds) -> str:
    match tree:
        case bool():
            return "1 = 1" if tree else "1 = 0"
        case Has(marks):
            return _exists(marks, binds)
        case Lacks(marks):
            return f"NOT {_exists(marks, binds)}"
        case All(parts):
            return " AND ".join(f"({_condition(part, binds)})" for part in parts)
        case Some(parts):
            return " OR ".join(f"({_condition(part, binds)})" for part in parts)
        case _:
            assert_never(tree)


def _exists(marks: tuple[str, ...], binds: Binds) -> str:
    lists = [marks[start : start + _IN_ONE_LIST] for start in range(0, len(marks), _IN_ONE_LIST)]
    wanted = " OR ".join(f"m.mark IN ({', '.join(map(binds.mark, one))})" for one in lists)
    same_row = "m.store_key = c.store_key AND m.row_key = c.row_key"
    return f"EXISTS (SELECT 1 FROM regate_marks m WHERE {same_row} AND ({wanted}))"  # noqa: S608 — of placeholders
