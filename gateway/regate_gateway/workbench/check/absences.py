"""Where a rule is silent about what is missing: a warning, since it may be meant so. Nothing here refuses a
policy.

`deny if input.chunk.region != input.principal.attrs.region` denies nobody who has no region: a comparison
with what is missing is undefined, and a `deny` that is undefined denies nothing. Which way a rule counts, for
access or against it, follows from the `not` on the way to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from regate_adapters.opa.acceptance.findings import Finding
from regate_adapters.opa.acceptance.nodes import (
    Node,
    Path,
    call_in,
    is_call,
    leading_names,
    nodes,
    operator_of,
    row_of,
    steps_below,
    variables,
)
from regate_adapters.opa.acceptance.syntax import Definition, Policies
from regate_orchestrator.authz.points import PRINCIPAL, Point

_GRANTS: Final[Sequence[Path]] = tuple(
    ("data", *rule.split("/"))
    for rule in (*(point.value for point in Point if point.is_yes_or_no), PRINCIPAL)
)
_MAY_BE_MISSING: Final[Mapping[Path, str]] = {
    ("principal", "attrs"): "the principal may have no {name}",
    ("claims",): "the token may have no claim {name}",
    ("document", "attributes"): "the document may have no attribute {name}",
    ("document", "requested"): "the request may say nothing of {name}",
    ("requested",): "the request may say nothing of {name}",
    ("tool", "arguments"): "the call may have no argument {name}",
}
_ORDERED: Final = ("neq", "lt", "lte", "gt", "gte")
_EQUAL: Final = ("eq", "equal")


def absence_warnings(policies: Policies) -> list[Finding]:
    """Return where access depends on what may be missing in such a way that its absence grants."""
    found: list[Finding] = []
    waiting = [(path, True) for path in _GRANTS]
    seen: set[tuple[Path, bool]] = set()
    while waiting:
        path, grants = waiting.pop()
        if (path, grants) in seen:
            continue
        seen.add((path, grants))
        for definition in policies.rules.get(path, ()):
            reader = _Reader(policies, definition, grants=grants)
            found += reader.warnings()
            waiting += reader.reached
    return sorted(dict.fromkeys(found), key=lambda one: (one.file, one.row, one.message))


class _Reader:
    """Reads one definition of a rule that counts for access (`grants`) or against it."""

    def __init__(self, policies: Policies, definition: Definition, *, grants: bool) -> None:
        self._policies = policies
        self._definition = definition
        self._grants = grants
        self.reached: list[tuple[Path, bool]] = []
        """The rules that it names, and whether they count for access."""

    def warnings(self) -> Iterator[Finding]:
        """Yield what is wrong with its bodies."""
        node: Node | None = self._definition.node
        while node is not None:
            missing: dict[str, str] = {}
            for expression in node.get("body") or []:
                yield from self._expression(expression, missing)
            self._follow(node["head"], flips=False)
            node = node.get("else")

    def _expression(self, expression: Node, missing: dict[str, str]) -> Iterator[Finding]:
        terms = expression["terms"]
        newer = isinstance(terms, dict) and terms.get("type") == "not"
        negated = bool(expression.get("negated")) or newer
        self._follow(expression, flips=negated or _counts_to_nothing(terms))
        inner = terms["body"][0]["terms"] if newer and len(terms["body"]) == 1 else terms
        what = self._missing_in(inner, missing)
        if what is not None and self._is_granted_by_absence(inner, negated=negated, newer=newer):
            yield Finding(
                "granted-by-absence",
                self._words(what),
                self._definition.module.file,
                row_of(expression, self._definition.row),
            )
        if isinstance(terms, list) and is_call(terms, "assign", "eq") and what is not None:
            missing.update(dict.fromkeys(variables(terms[1]), what))

    def _is_granted_by_absence(self, terms: Any, *, negated: bool, newer: bool) -> bool:
        """Return whether access is the wider where a part of the expression is undefined."""
        if self._grants:
            # OPA takes references out of a negated call, which is then undefined; only an equality or a bare
            # term holds.
            return negated and (newer or isinstance(terms, dict) or is_call(terms, *_EQUAL))
        if not isinstance(terms, list):
            return False
        return is_call(terms, *_ORDERED) if not negated else not newer and not is_call(terms, *_EQUAL)

    def _words(self, what: str) -> str:
        if self._grants:
            return (
                f"{what}, and then this holds; say what must be there in a rule of its own, and name that "
                "rule"
            )
        return (
            f"{what}, and then nothing is denied; say what is permitted in a rule of its own, which "
            "does not hold without it "
            f"(`_fits if … == …`), and write `{self._definition.name} if not _fits`"
        )

    def _follow(self, tree: Any, *, flips: bool) -> None:
        self.reached += [(path, self._grants is not flips) for path in self._policies.referred(tree)]

    # ------------------------------------------------------------ what may be missing

    def _missing_in(self, tree: Any, missing: Mapping[str, str]) -> str | None:
        """Return, in words, what of the tree may be missing; None when nothing may."""
        for node in nodes(tree):
            if node.get("type") == "var" and (what := missing.get(str(node["value"]))) is not None:
                return what
            steps = steps_below(node, "input")
            if steps is not None and (what := _optional(steps)) is not None:
                return what
            if (what := self._looked_up(node)) is not None:
                return what
            path = self._policies.exactly(node)
            if path is not None and (what := self._missing_value(path)) is not None:
                return what
        return None

    def _looked_up(self, node: Node) -> str | None:
        """Return what a look-up in a document by something of the input may not find."""
        steps = steps_below(node, "data") or []
        names = leading_names(steps)
        if len(names) == len(steps) or self._policies.named(("data", *names)):
            return None
        step = steps[len(names)]
        return f"data.{'.'.join(names)} may have no entry for it" if steps_below(step, "input") else None

    def _missing_value(self, path: Path) -> str | None:
        """Return what the value of a rule may lack, if the rule has no default."""
        definitions = self._policies.rules[path]
        if any(
            one.is_default or one.is_function or one.is_partial or "else" in one.parsed for one in definitions
        ):
            return None
        for one in definitions:
            for node in nodes(one.head.get("value") or {}):
                steps = steps_below(node, "input")
                if steps is not None and (what := _optional(steps)) is not None:
                    return what
        return None


def _optional(steps: Sequence[Node]) -> str | None:
    names = leading_names(steps)
    for root, words in _MAY_BE_MISSING.items():
        if names[: len(root)] == root and len(steps) > len(root):
            step = steps[len(root)]
            return words.format(name=step["value"] if step["type"] == "string" else "such entry")
    return None


def _counts_to_nothing(terms: Any) -> bool:
    """Return whether the expression demands that a set is empty."""
    if not isinstance(terms, list) or len(terms) != 3 or not is_call(terms, *_EQUAL):
        return False
    counted = [
        one for one in terms[1:] if (call := call_in(one)) is not None and operator_of(call) == "count"
    ]
    return bool(counted) and any(one.get("value") == 0 for one in terms[1:])
