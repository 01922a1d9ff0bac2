"""Do filter and decision agree? Each rule is compiled for sample principals, and the filter compared with
OPA's full evaluation on rows.

One Rego rule has two uses, so a difference between the two is a leak or a loss. OPA evaluates all rows of a
decision point in one run; the filter is read by `regate_orchestrator.filters.evaluate`, which every store's
renderer is proven against (`support.py` asks those).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from regate_adapters.opa.acceptance.findings import Finding
from regate_adapters.opa.engine import OpaEngine
from regate_adapters.opa.residual import NotUnderstood
from regate_gateway.workbench.check.rows import Row, RowMaker
from regate_gateway.workbench.check.samples import Sample
from regate_gateway.workbench.opa_command import OpaCommand, reported_errors
from regate_orchestrator.authz.points import FILTERED, Point
from regate_orchestrator.errors import FilterNotExpressible
from regate_orchestrator.filters.evaluate import holds
from regate_orchestrator.filters.expression import FilterPlan, expression_of
from regate_orchestrator.filters.schema import FieldType, RowSchema

NOW: Final = 1_800_000_000
"""The time that samples ask at: any will do, as rules read `input.now`."""

Places: TypeAlias = Mapping[str, tuple[str, int]]
"""File and line of each rule, by its whole name."""

_VALUES: Final[Mapping[FieldType, Any]] = {"string": "sample", "number": 0, "boolean": False, "list": []}
_MAX_SHOWN: Final = 5


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

    @property
    def rule(self) -> str:
        """Return the rule as policies name it."""
        return f"data.{self.point.value.replace('/', '.')}"


LISTINGS: Final = tuple(
    Listing(point, str(point.contract.filtered), point.contract.row) for point in FILTERED
)


@dataclass(frozen=True, slots=True)
class Compiled:
    """What one rule compiled to for one sample. `plan` is None, and `reason` says why, when it has no
    exact filter; `at` is the rule at fault.
    """

    listing: Listing
    sample: Sample
    document: Mapping[str, Any]
    plan: FilterPlan | None
    reason: str | None
    at: str | None = None


@dataclass(frozen=True, slots=True)
class Effort:
    """How many rows to start from, per filter."""

    witnesses: int
    others: int


async def compile_all(
    engine: OpaEngine, samples: Sequence[Sample], schemas: Mapping[str, RowSchema]
) -> list[Compiled]:
    """Return what each rule compiles to for each sample. Raises `PolicyUnavailable` when OPA gives no
    usable answer.
    """
    return [await _compile(engine, listing, sample, schemas) for listing in LISTINGS for sample in samples]


def fragment_findings(compiled: Sequence[Compiled], places: Places) -> list[Finding]:
    """Return a finding for each rule that has no exact filter for some sample."""
    found: dict[str, Finding] = {}
    for one in compiled:
        if one.reason is not None:
            file, row = places.get(one.at or one.listing.rule) or places.get(
                one.listing.rule, (one.listing.package, 0)
            )
            everybody = all(other.reason is not None for other in compiled if other.listing == one.listing)
            message = (
                f"{one.reason}{'' if everybody else for_caller(one.sample)}; write it within the filter "
                "fragment, see docs/filter-fragment.md"
            )
            found.setdefault(one.listing.rule, Finding("not-in-fragment", message, file, row))
    return list(found.values())


def for_caller(sample: Sample) -> str:
    """Return whom a finding is about, where it is not about everybody."""
    return f" (for the sample caller {sample.name!r})"


def disagreements(
    compiled: Sequence[Compiled],
    schemas: Mapping[str, RowSchema],
    places: Places,
    *,
    opa: OpaCommand,
    effort: Effort,
) -> tuple[int, list[Finding]]:
    """Return how many rows were decided both ways, and a finding for each kind of difference, with
    its row.
    """
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
            found += _differences(one, rows, admitted[number], places.get(listing.rule, (listing.package, 0)))
    return tried, found


async def _compile(
    engine: OpaEngine, listing: Listing, sample: Sample, schemas: Mapping[str, RowSchema]
) -> Compiled:
    document: dict[str, Any] = {"v": 1, "now": NOW, "request_id": "req_sample", "action": listing.action}
    document["principal"] = sample.principal.as_input()
    if listing.unknown == "chunk":
        document["store"] = _row_of(schemas["store"]) | {
            "tenant": sample.principal.tenant,
            "owner": "somebody",
        }
    try:
        planned = await engine.plan(listing.point.value, document, unknown=listing.unknown)
    except FilterNotExpressible as error:
        if isinstance(error, NotUnderstood):
            return Compiled(listing, sample, document, None, f"{error.within}: {error.reason}", error.within)
        return Compiled(listing, sample, document, None, error.detail)
    return Compiled(listing, sample, document, planned.plan, None)


def _row_of(schema: RowSchema) -> Row:
    return {name: _VALUES[spec.type] for name, spec in schema.fields.items()}


def _rows(one: Compiled, schema: RowSchema, effort: Effort) -> list[Row]:
    assert one.plan is not None  # noqa: S101 — INVARIANT: only compiled filters are tried
    principal = one.sample.principal
    held = [*principal.teams[:2], *principal.roles[:2], *principal.projects[:1], *principal.namespaces[:1]]
    maker = RowMaker(
        expression_of(one.plan),
        schema,
        names=[principal.id, principal.tenant, *held],
        numbers=[principal.clearance, NOW],
    )
    return maker.rows(witnesses=effort.witnesses, others=effort.others)


def _admitted(
    listing: Listing, cases: Sequence[tuple[Compiled, list[Row]]], opa: OpaCommand
) -> tuple[list[set[int]], list[Finding]]:
    """Return for each case which of its rows OPA allows, fully evaluated."""
    query = (
        "[[i, j] | some i, asked in input.cases; some j, row in asked.rows; "
        f"{listing.rule} == true with input as object.union(asked.document, {{input.unknown: row}})]"
    )
    given = {
        "unknown": listing.unknown,
        "cases": [{"document": one.document, "rows": rows} for one, rows in cases],
    }
    arguments = ("eval", "--bundle", ".", "--stdin-input", "--format", "json", query)
    said = opa.run(*arguments, given=json.dumps(given).encode())
    if said.status:
        return [], reported_errors(said, "evaluation-error")
    (result,) = json.loads(said.out)["result"]
    admitted: list[set[int]] = [set() for _ in cases]
    for case, row in result["expressions"][0]["value"]:
        admitted[case].add(row)
    return admitted, []


def _differences(
    one: Compiled, rows: Sequence[Row], admitted: set[int], place: tuple[str, int]
) -> list[Finding]:
    assert one.plan is not None  # noqa: S101 — INVARIANT: only compiled filters are tried
    expression = expression_of(one.plan)
    found: list[Finding] = []
    for number, row in enumerate(rows):
        filtered = holds(expression, row)
        if filtered == (number in admitted):
            continue
        says = (
            "admits it, and full evaluation denies it"
            if filtered
            else "leaves it out, and full evaluation allows it"
        )
        message = (
            f"the filter for the sample caller {one.sample.name!r} {says}: {json.dumps(row, sort_keys=True)}"
        )
        found.append(Finding("filter-disagrees", message, *place))
        if len(found) == _MAX_SHOWN:
            break
    return found
