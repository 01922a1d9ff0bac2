"""Do filter and decision agree? Each rule is compiled for sample principals, and the filter compared with OPA's full evaluation on rows.

One Rego rule has two uses, so a difference between the two is a leak or a loss. OPA evaluates all rows of a decision point in one run;
the filter is read by `regate_orchestrator.meaning`, which every store's renderer is proven against (`renderers.py` asks those).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from regate_adapters.opa.acceptance.findings import Finding
from regate_adapters.opa.acceptance.reach import FILTERS
from regate_adapters.opa.engine import OpaEngine
from regate_adapters.opa.residual import NotUnderstood
from regate_gateway.policy.opa_command import OpaCommand, reported_errors
from regate_gateway.policy.renderers import refusal, renderers_for
from regate_gateway.policy.rows import Row, RowMaker
from regate_gateway.policy.samples import Sample
from regate_orchestrator.decisions import Point
from regate_orchestrator.errors import FilterNotExpressible
from regate_orchestrator.filters import FilterPlan, expression_of
from regate_orchestrator.meaning import holds
from regate_orchestrator.schema import FieldType, RowSchema

NOW: Final = 1_800_000_000
"""The time that samples ask at: any will do, as rules read `input.now`."""

_VALUES: Final[Mapping[FieldType, Any]] = {"string": "sample", "number": 0, "boolean": False, "list": []}
_MOST_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Listing:
    """A question about which the row is unknown: each `allow` that is a filter as well."""

    point: Point
    action: str
    unknown: str

    @property
    def package(self) -> str:
        """Return the decision point's package below `regate`."""
        return self.point.short


LISTINGS: Final = tuple(Listing(Point("/".join((*one.package, "allow"))), one.action, one.unknown) for one in FILTERS)


@dataclass(frozen=True, slots=True)
class Compiled:
    """What one rule compiled to for one sample. `plan` is None, and `reason` says why, when it has no exact filter; `at` is the rule at fault."""

    listing: Listing
    sample: Sample
    document: Mapping[str, Any]
    plan: FilterPlan | None
    reason: str | None
    at: str | None = None


@dataclass(frozen=True, slots=True)
class Support:
    """Whether a kind of store applies a rule's filters exactly, for all samples; else why not, and for the first sample it does not."""

    package: str
    kind: str
    reason: str | None
    sample: str | None

    @property
    def exact(self) -> bool:
        """Return whether every sample's filter is exact here."""
        return self.reason is None


@dataclass(frozen=True, slots=True)
class Effort:
    """How many rows to start from, per filter."""

    witnesses: int
    others: int


async def compile_all(engine: OpaEngine, samples: Sequence[Sample], schemas: Mapping[str, RowSchema]) -> list[Compiled]:
    """Return what each rule compiles to for each sample. Raises `PolicyUnavailable` when OPA gives no usable answer."""
    return [await _compile(engine, listing, sample, schemas) for listing in LISTINGS for sample in samples]


def support(compiled: Sequence[Compiled], schemas: Mapping[str, RowSchema]) -> list[Support]:
    """Return for each rule and kind of store whether its filters are applied exactly. No IO."""
    found: list[Support] = []
    for listing in LISTINGS:
        own = [one for one in compiled if one.listing == listing]
        for kind, renderer in renderers_for(listing.unknown, schemas[listing.unknown]).items():
            refused = [(one.reason or _refusal(renderer, one), one.sample.name) for one in own]
            reason, sample = next(((why, name) for why, name in refused if why is not None), (None, None))
            found.append(Support(listing.package, kind, reason, sample))
    return found


def fragment_findings(compiled: Sequence[Compiled], places: Mapping[str, tuple[str, int]]) -> list[Finding]:
    """Return a finding for each rule that has no exact filter for some sample. `places` say where the rules are."""
    found: dict[str, Finding] = {}
    for one in compiled:
        if one.reason is not None:
            rule = f"data.{one.listing.point.value.replace('/', '.')}"
            file, row = places.get(one.at or rule) or places.get(rule, (one.listing.package, 0))
            message = f"{one.reason} (compiled for {one.sample.name}); write it within the filter fragment, see docs/filter-fragment.md"
            found.setdefault(rule, Finding("not-in-fragment", message, file, row))
    return list(found.values())


def disagreements(
    compiled: Sequence[Compiled], schemas: Mapping[str, RowSchema], *, opa: OpaCommand, effort: Effort
) -> tuple[int, list[Finding]]:
    """Return how many rows were decided both ways, and a finding for each kind of difference, with its row."""
    tried = 0
    found: list[Finding] = []
    for listing in LISTINGS:
        own = [one for one in compiled if one.listing == listing and one.plan is not None]
        cases = [(one, _rows(one, schemas[listing.unknown], effort)) for one in own]
        admitted, errors = _admitted(listing, cases, opa)
        found += errors
        if errors:
            continue
        tried += sum(len(rows) for _, rows in cases)
        for number, (one, rows) in enumerate(cases):
            found += _differences(one, rows, admitted[number])
    return tried, found


async def _compile(engine: OpaEngine, listing: Listing, sample: Sample, schemas: Mapping[str, RowSchema]) -> Compiled:
    document: dict[str, Any] = {"v": 1, "now": NOW, "request_id": "req_sample", "action": listing.action}
    document["principal"] = sample.principal.as_input()
    if listing.unknown == "chunk":
        document["store"] = _row_of(schemas["store"]) | {"tenant": sample.principal.tenant, "owner": "somebody"}
    try:
        planned = await engine.plan(listing.point.value, document, unknown=listing.unknown)
    except FilterNotExpressible as error:
        if isinstance(error, NotUnderstood):
            return Compiled(listing, sample, document, None, f"{error.within}: {error.reason}", error.within)
        return Compiled(listing, sample, document, None, error.detail)
    return Compiled(listing, sample, document, planned.plan, None)


def _row_of(schema: RowSchema) -> Row:
    return {name: _VALUES[spec.type] for name, spec in schema.fields.items()}


def _refusal(renderer: Any, one: Compiled) -> str | None:
    return None if one.plan is None else refusal(renderer, one.plan)


def _rows(one: Compiled, schema: RowSchema, effort: Effort) -> list[Row]:
    assert one.plan is not None  # noqa: S101 — INVARIANT: only compiled filters are tried
    principal = one.sample.principal
    held = [*principal.teams[:2], *principal.roles[:2], *principal.projects[:1], *principal.namespaces[:1]]
    maker = RowMaker(expression_of(one.plan), schema, names=[principal.id, principal.tenant, *held], numbers=[principal.clearance, NOW])
    return maker.rows(witnesses=effort.witnesses, others=effort.others)


def _admitted(listing: Listing, cases: Sequence[tuple[Compiled, list[Row]]], opa: OpaCommand) -> tuple[list[set[int]], list[Finding]]:
    """Return for each case which of its rows OPA allows, fully evaluated."""
    query = (
        "[[i, j] | some i, asked in input.cases; some j, row in asked.rows; "
        f"data.{listing.point.value.replace('/', '.')} == true with input as object.union(asked.document, {{input.unknown: row}})]"
    )
    given = {"unknown": listing.unknown, "cases": [{"document": one.document, "rows": rows} for one, rows in cases]}
    arguments = ("eval", "--bundle", ".", "--stdin-input", "--format", "json", query)
    said = opa.run(*arguments, given=json.dumps(given).encode())
    if said.status:
        return [], reported_errors(said, "evaluation-error")
    (result,) = json.loads(said.out)["result"]
    admitted: list[set[int]] = [set() for _ in cases]
    for case, row in result["expressions"][0]["value"]:
        admitted[case].add(row)
    return admitted, []


def _differences(one: Compiled, rows: Sequence[Row], admitted: set[int]) -> list[Finding]:
    assert one.plan is not None  # noqa: S101 — INVARIANT: only compiled filters are tried
    expression = expression_of(one.plan)
    found: list[Finding] = []
    for number, row in enumerate(rows):
        filtered = holds(expression, row)
        if filtered == (number in admitted):
            continue
        says = "admits it, and full evaluation denies it" if filtered else "leaves it out, and full evaluation allows it"
        message = f"the filter for {one.sample.name} {says}: {json.dumps(row, sort_keys=True)}"
        found.append(Finding("filter-disagrees", message, f"regate/{one.listing.package}"))
        if len(found) == _MOST_SHOWN:
            break
    return found
