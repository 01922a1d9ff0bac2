"""`regate policy check`: everything that can be known of a policy directory before it serves. What is printed
of it is in `report.py`.

Runs other people's tools (`tools.py`), the contract with the gateway (`entrypoints.py`, row schemas), all
that is checked again when policies are loaded (`regate_adapters.opa.acceptance`), warns (`absences.py`), and
compares filter and decision (`agreement.py`). Nothing is changed or served.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from regate_adapters.opa.acceptance.controls import control_findings
from regate_adapters.opa.acceptance.findings import Finding
from regate_adapters.opa.acceptance.judging import authoring_findings
from regate_adapters.opa.acceptance.reach import FILTERS
from regate_adapters.opa.acceptance.syntax import Policies
from regate_adapters.opa.engine import OpaEngine
from regate_adapters.opa.policies.source import BrokenPolicy, PolicySource, read_source
from regate_adapters.opa.server.process import ManagedOpa
from regate_gateway.workbench.check.absences import absence_warnings
from regate_gateway.workbench.check.agreement import (
    LISTINGS,
    Compiled,
    Effort,
    compile_all,
    disagreements,
    fragment_findings,
)
from regate_gateway.workbench.check.entrypoints import entrypoint_findings, required_rules
from regate_gateway.workbench.check.findings import Outcome, not_run, outcome, warned, without
from regate_gateway.workbench.check.parsing import parse_policies
from regate_gateway.workbench.check.renderers import ROWS_IN_SQL
from regate_gateway.workbench.check.report import Report
from regate_gateway.workbench.check.samples import Sample, built_in_samples
from regate_gateway.workbench.check.support import support, support_findings
from regate_gateway.workbench.check.tools import check_format, check_types, run_regal, run_tests
from regate_gateway.workbench.opa_command import OpaCommand
from regate_orchestrator.errors import ConfigurationError, PolicyUnavailable
from regate_orchestrator.filters.schema import RowSchema, load_schema
from regate_orchestrator.ports import GUARD_STEPS

QUICK: Final = Effort(witnesses=2, others=1)
FULL: Final = Effort(witnesses=12, others=20)

_BEFORE_FILTERS: Final = ("types", "authoring", "controls")
"""What these find is not loaded, so it is not compiled either."""
_NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("syntax", "format", "types", "tests", "regal", "entrypoints", "schemas"), ()),
    "authoring": ("schemas",),
    **dict.fromkeys(("controls", "absences"), ()),
    "filters": ("schemas", *_BEFORE_FILTERS),
    **dict.fromkeys(("stores", "agreement"), ("schemas", *_BEFORE_FILTERS, "filters")),
}
CHECKS: Final = tuple(_NEEDS)
"""The names of all checks, in their order."""

_COMPILE_SECONDS: Final = 20.0
_PLACED: Final = re.compile(r"([\w./-]+\.rego):(\d+): (.+)", re.DOTALL)
_ASKED: Final = frozenset(listing.unknown for listing in LISTINGS)


@dataclass(frozen=True, slots=True)
class Task:
    """What to check, and how thoroughly. `shown` is how the policies are named in the report.

    `deployed` are the kinds of store that must apply every filter exactly; `only` are the checks to make,
    with those that they need.
    """

    directory: Path
    shown: str
    opa: Path
    tests: Path | None
    samples: Sequence[Sample]
    effort: Effort
    deployed: frozenset[str]
    only: frozenset[str]


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told of each check when it begins, by its name, and of what it came to."""

    begins: Callable[[str], None]
    ended: Callable[[Outcome], None]


def check_policies(task: Task, listener: Listener) -> Report:
    """Return the report on a policy directory. Raises `ConfigurationError` when OPA itself does not run."""
    opa = OpaCommand(task.opa, task.directory)
    report = Report(task.shown, "")
    run = _Run(report, task.only, listener)
    try:
        source = read_source(task.directory)
    except BrokenPolicy as error:
        run.note(outcome("files", "", [Finding("no-policies", error.message, task.shown)]))
        return report
    report.revision = source.revision
    names = sorted(name for name in source.files if name.endswith(".rego"))
    listener.begins("syntax")
    policies, broken = parse_policies(names, opa)
    if run.note(outcome("syntax", f"{len(names)} files", broken)).failed:
        return report
    tests = task.tests
    folders = [Path(), *([tests] if tests is not None and tests != task.directory else [])]
    run.add("format", lambda: check_format(opa, folders))
    run.add("types", lambda: check_types(opa))
    run.add("tests", lambda: run_tests(opa, tests))
    run.add("regal", lambda: run_regal(opa, folders))
    run.add(
        "entrypoints",
        lambda: outcome("entrypoints", f"all {len(required_rules())}", entrypoint_findings(policies)),
    )
    schemas, faults = read_schemas(task.directory)
    run.add("schemas", lambda: outcome("schemas", f"{len(schemas)} kinds of row", faults))
    run.add(
        "authoring",
        lambda: outcome("authoring", "within the filter fragment", authoring_findings(policies, schemas)),
    )
    run.add(
        "controls",
        lambda: outcome(
            "controls", "all there", list(control_findings(policies, source.files, guarded=GUARD_STEPS))
        ),
    )
    run.add(
        "absences",
        lambda: warned("absences", "nothing is granted for want of a value", absence_warnings(policies)),
    )
    if (
        any(one.failed for one in report.outcomes if one.name in _BEFORE_FILTERS)
        or not schemas.keys() >= _ASKED
    ):
        run.leave_out(("filters", "stores", "agreement"), "mend the findings above first")
        return report
    samples = [*built_in_samples(policies, _documents(source)), *task.samples]
    _check_filters(task, run, policies, schemas, samples)
    return report


def read_schemas(directory: Path) -> tuple[dict[str, RowSchema], list[Finding]]:
    """Return the readable row schemas by the row's name, and what is wrong with them: rows are stamped
    closed-world, with every field.
    """
    schemas: dict[str, RowSchema] = {}
    findings: list[Finding] = []
    for kind in (one.unknown for one in FILTERS):
        file = f"schemas/{kind}.json"
        if kind not in _ASKED and not (directory / file).exists():
            continue
        try:
            schema = load_schema(directory / file)
        except ConfigurationError as error:
            findings.append(
                Finding(
                    "schema-unreadable",
                    f"{error.message}; give each field one type that stores can hold",
                    file,
                )
            )
            continue
        schemas[kind] = schema
        optional = [name for name, spec in schema.fields.items() if not spec.required]
        if optional:
            message = (
                f"{', '.join(optional)} may be missing, and then stores and OPA differ; list every field "
                "under `required`"
            )
            findings.append(Finding("schema-not-closed", message, file))
        if (
            json.loads((directory / file).read_text(encoding="utf-8")).get("additionalProperties")
            is not False
        ):
            findings.append(
                Finding(
                    "schema-not-closed",
                    "other fields are let through; set `additionalProperties` to false",
                    file,
                )
            )
    return schemas, findings


def deployed_kinds(vector_kinds: frozenset[str]) -> frozenset[str]:
    """Return the kinds of store that a gateway with these kinds of vector store applies filters in."""
    return vector_kinds | {ROWS_IN_SQL}


class _Run:
    """Makes the checks that are asked for, and those that they need, and adds what they come to to the
    report.
    """

    def __init__(self, report: Report, only: frozenset[str], listener: Listener) -> None:
        self._report = report
        self._wanted = only.union(*(_NEEDS[name] for name in only))
        self._listener = listener
        self._told: set[tuple[str, int]] = set()

    def add(self, name: str, check: Callable[[], Outcome]) -> None:
        """Make the check if it is wanted."""
        if name in self._wanted:
            self._listener.begins(name)
            self.note(check())

    def note(self, done: Outcome) -> Outcome:
        """Note what a check came to, and return it, but for the lines that an earlier one told of."""
        noted = without(done, self._told)
        self._told |= {(one.file, one.row) for one in (*noted.findings, *noted.warnings) if one.row}
        self._report.outcomes.append(noted)
        self._listener.ended(noted)
        return noted

    def leave_out(self, names: Sequence[str], why: str) -> None:
        """Note that these could not run, if they are wanted."""
        for name in names:
            if name in self._wanted:
                self.note(not_run(name, why))

    def support(
        self, task: Task, compiled: Sequence[Compiled], policies: Policies, schemas: Mapping[str, RowSchema]
    ) -> Outcome:
        """Return which stores cannot apply the filters, and note which can."""
        try:
            self._report.stores = support(compiled, schemas)
        except ConfigurationError as error:
            return outcome("stores", "", [Finding("not-storable", error.message, "schemas")])
        found = list(support_findings(self._report.stores, task.deployed, policies))
        return outcome("stores", f"exact in {', '.join(sorted(task.deployed))}", found)


def _check_filters(
    task: Task, run: _Run, policies: Policies, schemas: Mapping[str, RowSchema], samples: Sequence[Sample]
) -> None:
    compiled: list[Compiled] = []
    places = _places(policies)

    def filters() -> Outcome:
        try:
            compiled.extend(asyncio.run(_compile(task, schemas, samples)))
        except (ConfigurationError, PolicyUnavailable) as error:
            detail = error.detail if isinstance(error, PolicyUnavailable) else error.message
            placed = _PLACED.fullmatch(detail)
            found = (
                Finding("not-compiled", detail, ".")
                if placed is None
                else Finding("not-compiled", placed[3], placed[1], int(placed[2]))
            )
            return outcome("filters", "", [found])
        return outcome(
            "filters", f"{len(compiled)}, for {len(samples)} principals", fragment_findings(compiled, places)
        )

    def agreement() -> Outcome:
        opa = OpaCommand(task.opa, task.directory)
        tried, findings = disagreements(compiled, schemas, places, opa=opa, effort=task.effort)
        return outcome("agreement", f"filter and decision agree on {tried} rows", findings)

    run.add("filters", filters)
    if compiled:
        run.add("stores", lambda: run.support(task, compiled, policies, schemas))
        run.add("agreement", agreement)


async def _compile(task: Task, schemas: Mapping[str, RowSchema], samples: Sequence[Sample]) -> list[Compiled]:
    async with (
        ManagedOpa(task.directory, opa=task.opa) as managed,
        OpaEngine(managed.address, schemas=schemas, deadline_s=_COMPILE_SECONDS) as engine,
    ):
        return await compile_all(engine, samples, schemas)


def _places(policies: Policies) -> dict[str, tuple[str, int]]:
    found: dict[str, tuple[str, int]] = {}
    for path, definitions in policies.rules.items():
        first = next((one for one in definitions if not one.is_default), definitions[0])
        found[".".join(path)] = (first.module.file, first.row)
    return found


def _documents(source: PolicySource) -> list[Any]:
    """Return the operators' documents, wherever they lie. One that cannot be read is left to OPA's own
    check, and its names are not known here.
    """
    documents: list[Any] = []
    for name, content in source.files.items():
        if Path(name).name == "data.json":
            try:
                documents.append(json.loads(content))
            except ValueError:
                continue
    return documents
