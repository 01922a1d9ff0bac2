"""What a filter is made of: the rules that its `allow` reaches, which of them speak of the row, and what of
them is evaluated for a listing.

A filter is compiled for one action (`store.list`). What stands behind a test that this action fails is not
evaluated then, so nothing can go wrong there. That a rule speaks of the row, and so must stay within the
fragment, is asked whatever the action: the next filter may be of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from regate_adapters.opa.acceptance.nodes import TRUE, Node, Path, bare, call_in, is_call, steps_below
from regate_adapters.opa.acceptance.syntax import Definition, Policies
from regate_orchestrator.authz.points import FILTERED


@dataclass(frozen=True, slots=True)
class Filter:
    """An `allow` that is compiled into a filter, with the row unknown: `package` below `data`, and the
    action that it is compiled for.
    """

    package: Path
    unknown: str
    action: str

    @property
    def entrypoint(self) -> Path:
        """Return the path of the rule."""
        return ("data", *self.package, "allow")

    @property
    def row(self) -> str:
        """Return the row as policies write it."""
        return f"input.{self.unknown}"


FILTERS: Final = tuple(
    Filter(tuple(point.package.split("/")), point.contract.row, str(point.contract.filtered))
    for point in FILTERED
)
"""Everything that the gateway compiles."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One body of a definition, the first or that of an `else`: as much of it as is evaluated, and its
    head if that can come to have a value.
    """

    body: tuple[Node, ...]
    head: Node | None


class Reach:
    """The rules that one filter reaches. `touching` speak of the row, `open` are or rest on those that
    OPA leaves open in a filter.
    """

    def __init__(self, policies: Policies, made: Filter) -> None:
        self.policies = policies
        self.filter = made
        self._fails: dict[Path, bool] = {}
        self.reached = self._all()
        self.evaluated: dict[Path, list[tuple[Definition, list[Branch]]]] = dict(self._evaluated())
        refers = {
            path: set().union(*(policies.referred_by(definition) for definition in policies.rules[path]))
            for path in self.reached
        }
        speaking = {
            path
            for path in self.reached
            if any(mentions(one.node, made.unknown) for one in policies.rules[path])
        }
        self.touching = _with_dependents(speaking, refers)
        self.helpers = {
            path for path in self.reached if path != made.entrypoint and policies.is_open_helper(path)
        }
        self.open = _with_dependents(self.touching | self.helpers, refers)

    def _all(self) -> set[Path]:
        start = self.filter.entrypoint
        found, waiting = {start} & self.policies.rules.keys(), [start]
        while waiting:
            for definition in self.policies.rules.get(waiting.pop(), ()):
                for named in self.policies.referred_by(definition) - found:
                    found.add(named)
                    waiting.append(named)
        return found

    # ------------------------------------------------------------ what the action leaves

    def _evaluated(self) -> Iterator[tuple[Path, list[tuple[Definition, list[Branch]]]]]:
        start = self.filter.entrypoint
        found, waiting = {start} & self.policies.rules.keys(), [start]
        while waiting:
            path = waiting.pop()
            definitions = [(one, list(self._branches(one.node))) for one in self.policies.rules.get(path, ())]
            yield path, definitions
            for _, branches in definitions:
                for branch in branches:
                    for named in self.policies.referred([*branch.body, branch.head or {}]) - found:
                        found.add(named)
                        waiting.append(named)

    def _branches(self, node: Node) -> Iterator[Branch]:
        body = node.get("body") or []
        failing = next(
            (position for position, expression in enumerate(body) if self._is_failed(expression)), None
        )
        head = {name: node["head"][name] for name in ("key", "value", "ref", "args") if name in node["head"]}
        yield Branch(
            tuple(body if failing is None else body[: failing + 1]), head if failing is None else None
        )
        if "else" in node:
            yield from self._branches(node["else"])

    def _is_failed(self, expression: Node) -> bool:
        """Return whether the action by itself makes the expression fail."""
        terms = expression["terms"]
        if expression.get("negated") or expression.get("with"):
            return False
        if isinstance(terms, dict):
            path = self.policies.exactly(terms)
            return path is not None and self._never_holds(path)
        if len(terms) != 3:
            return False
        left, right = terms[1], terms[2]
        if is_call(terms, "internal.member_2") and _is_action(left):
            values = self._literals(right)
            return values is not None and self.filter.action not in values
        if is_call(terms, "equal", "eq", "neq"):
            for one, other in ((left, right), (right, left)):
                if _is_action(one) and other["type"] == "string":
                    return bool((other["value"] == self.filter.action) == is_call(terms, "neq"))
                path = self.policies.exactly(one)
                if path is not None and bare(other) == TRUE and not is_call(terms, "neq"):
                    return self._never_holds(path)
        return False

    def _never_holds(self, path: Path) -> bool:
        """Return whether no definition of a plain rule can hold for the action."""
        if path not in self._fails:
            self._fails[path] = False  # of rules that refer to each other nothing is known
            self._fails[path] = all(
                not (one.is_default or one.is_function or one.is_partial or "else" in one.parsed)
                and any(self._is_failed(expression) for expression in one.node.get("body") or [])
                for one in self.policies.rules[path]
            )
        return self._fails[path]

    def _literals(self, term: Node) -> set[Any] | None:
        """Return the texts of a collection that is written out, in place or as the value of a rule;
        None for anything else.
        """
        if (path := self.policies.exactly(term)) is not None:
            definitions = self.policies.rules[path]
            if len(definitions) != 1 or not all(map(_is_always, definitions[0].node.get("body") or [])):
                return None
            term = definitions[0].head.get("value", {"type": "boolean"})
        if term["type"] not in ("array", "set") or any(one["type"] != "string" for one in term["value"]):
            return None
        return {one["value"] for one in term["value"]}


def mentions(tree: Any, unknown: str) -> bool:
    """Return whether a resolved tree reads the row, or the whole input in a way that may."""
    if isinstance(tree, list | tuple):
        return any(mentions(value, unknown) for value in tree)
    if not isinstance(tree, dict):
        return False
    if (steps := steps_below(tree, "input")) is not None:
        return (
            not steps
            or steps[0]["type"] != "string"
            or steps[0]["value"] == unknown
            or mentions(steps, unknown)
        )
    terms = call_in(tree)
    if (
        terms is not None
        and is_call(terms, "object.get")
        and steps_below(terms[1], "input") == []
        and terms[2]["type"] == "string"
    ):
        return bool(terms[2]["value"] == unknown) or mentions(terms[3:], unknown)
    return any(mentions(value, unknown) for key, value in tree.items() if key != "location")


def _with_dependents(paths: set[Path], refers: dict[Path, set[Path]]) -> set[Path]:
    found = set(paths)
    while more := {path for path, named in refers.items() if path not in found and named & found}:
        found |= more
    return found


def _is_action(term: Node) -> bool:
    steps = steps_below(term, "input")
    return steps is not None and [step["value"] for step in steps] == ["action"]


def _is_always(expression: Node) -> bool:
    return bool(bare(expression.get("terms")) == TRUE)
