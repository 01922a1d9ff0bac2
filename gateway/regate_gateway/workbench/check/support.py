"""Which kinds of store apply the filters exactly; and of what one cannot, the line of the rule that
asks for it, and what to write instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from regate_adapters.opa.acceptance.findings import Finding
from regate_adapters.opa.acceptance.forms import Forms
from regate_adapters.opa.acceptance.nodes import MEMBER, Node, call_in, nodes, operator_of, row_of
from regate_adapters.opa.acceptance.reach import FILTERS, Reach
from regate_adapters.opa.acceptance.syntax import Policies
from regate_adapters.vector.kind import Renderer
from regate_adapters.vector.registry import KINDS as ENGINES
from regate_gateway.workbench.check.agreement import LISTINGS, Compiled, for_caller
from regate_gateway.workbench.check.renderers import KINDS, Refusal, refusal, renderers_for
from regate_gateway.workbench.check.samples import Sample
from regate_orchestrator.filters.expression import Atom, Compare, CompareFields, Ordered, Text
from regate_orchestrator.filters.schema import RowSchema

_EQUALITIES: Final = ("eq", "equal", "neq")
_ORDERINGS: Final = ("lt", "lte", "gt", "gte")
_NOT_DEPLOYED: Final = KINDS - {name for name, kind in ENGINES.items() if kind.keeps}


@dataclass(frozen=True, slots=True)
class Support:
    """Whether a kind of store applies a rule's filters exactly, for all samples; else why not, and for the
    first sample it does not.

    `for_everybody` says that it does so for no sample, so that the sample is not to blame.
    """

    package: str
    kind: str
    refused: Refusal | None
    sample: Sample | None
    for_everybody: bool

    @property
    def exact(self) -> bool:
        """Return whether every sample's filter is exact here."""
        return self.refused is None

    @property
    def reason(self) -> str | None:
        """Return why not, in words."""
        return None if self.refused is None else self.refused.reason


def support(compiled: Sequence[Compiled], schemas: Mapping[str, RowSchema]) -> list[Support]:
    """Return for each rule and kind of store whether its filters are applied exactly. No IO."""
    found: list[Support] = []
    for listing in LISTINGS:
        own = [one for one in compiled if one.listing == listing]
        for kind, renderer in renderers_for(listing.unknown, schemas[listing.unknown]).items():
            refused = [(why, one.sample) for one in own if (why := _refusal(renderer, one)) is not None]
            reason, sample = refused[0] if refused else (None, None)
            found.append(Support(listing.package, kind, reason, sample, len(refused) == len(own)))
    return found


def support_findings(
    stores: Sequence[Support], deployed: frozenset[str], policies: Policies
) -> Iterator[Finding]:
    """Yield where a deployed kind of store cannot apply a filter; a kind that could not be tried has
    not been shown to.
    """
    for one in stores:
        if one.refused is not None and one.kind in deployed:
            reach = Reach(policies, next(made for made in FILTERS if made.entrypoint[-2] == one.package))
            others = [
                other.kind
                for other in stores
                if other.package == one.package and other.exact and other.kind not in _NOT_DEPLOYED
            ]
            elsewhere = f"; or deploy {' or '.join(others)}, which can" if others else ""
            caller = "" if one.for_everybody or one.sample is None else for_caller(one.sample)
            message = f"{_advice(one.kind, one.refused, reach.filter.row)}{elsewhere}{caller}"
            yield Finding("not-expressible", message, *_place(one.refused.test, reach))
    for kind in sorted(deployed - {one.kind for one in stores}):
        message = (
            f"filters for {kind} cannot be tried here: install what it needs, or name other kinds with "
            "--store"
        )
        yield Finding("store-not-tried", message, kind)


def _refusal(renderer: Renderer, one: Compiled) -> Refusal | None:
    if one.plan is None:
        return Refusal(one.reason or "it has no exact filter", None)
    return refusal(renderer, one.plan)


def _advice(kind: str, refused: Refusal, row: str) -> str:
    """Return what the store cannot do, and what to write instead."""
    match refused.test:
        case Text(operator, (name, *_), _):
            return (
                f"{kind} cannot apply {operator} to {row}.{name}; stamp what that part of the text "
                "stands for as a field of its own, and compare it "
                "with `==`"
            )
        case CompareFields(_, (left, *_), (right, *_)):
            return (
                f"{kind} cannot compare {row}.{left} with {row}.{right}; stamp what the comparison "
                "says as a field of its own, and compare that "
                "with a known value"
            )
        case Compare("lt" | "le" | "gt" | "ge", (name, *_), value) if isinstance(value, str):
            return f"{kind} cannot order the texts of {row}.{name}; stamp a number, and compare that"
        case None:
            return (
                f"{refused.reason}; write fewer conditions: what many rules test one by one can be stamped "
                "as one field"
            )
        case _:
            return (
                f"{refused.reason}; compare a field that is declared in schemas with a value of its own type"
            )


def _place(test: Atom | None, reach: Reach) -> tuple[str, int]:
    """Return file and line of the expression that asks for the test, as far as its fields and its
    operator tell; else those of `allow`.
    """
    wanted = _fields(test)
    forms = Forms(reach)
    best, place = 0, _start(reach)
    for path in sorted(reach.touching):
        for definition in reach.policies.rules[path]:
            for node in nodes(definition.node):
                if "terms" not in node:
                    continue
                named = {name for inner in nodes(node["terms"]) if (name := forms.field(inner)) is not None}
                score = 2 * len(named & wanted) + (bool(named & wanted) and _asks_for(node, test))
                if score > best:
                    best, place = score, (definition.module.file, row_of(node, definition.row))
    return place


def _start(reach: Reach) -> tuple[str, int]:
    definitions = reach.policies.rules[reach.filter.entrypoint]
    first = next((one for one in definitions if not one.is_default), definitions[0])
    return first.module.file, first.row


def _fields(test: Atom | None) -> set[str]:
    match test:
        case None:
            return set()
        case CompareFields():
            return {test.left[0], test.right[0]}
        case _:
            return {test.field[0]}


def _asks_for(expression: Node, test: Atom | None) -> bool:
    """Return whether the expression has an operator of the kind that the test has."""
    asked = {operator_of(terms) for node in nodes(expression) if (terms := call_in(node)) is not None}
    match test:
        case Text(operator, _, _):
            return operator in asked
        case Compare(operator, _, _) | CompareFields(operator, _, _) | Ordered(operator, _, _):
            # Either side may stand first, and a negation turns an operator round.
            return not asked.isdisjoint(_EQUALITIES if operator in ("eq", "ne") else _ORDERINGS)
        case _:
            return not asked.isdisjoint(MEMBER)
