"""`regate policy check`: everything that can be known of a policy directory before it serves. The commands' counterpart; printing is here too.

Runs other people's tools (`tools.py`), the contract with the gateway (`entrypoints.py`, row schemas), all that is checked again when policies are
loaded (`regate_adapters.opa.acceptance`), warns (`absences.py`), and compares filter and decision (`agreement.py`). Nothing is changed or served.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from regate_adapters.opa.acceptance.controls import control_findings
from regate_adapters.opa.acceptance.findings import Finding
from regate_adapters.opa.acceptance.judging import authoring_findings
from regate_adapters.opa.acceptance.reach import FILTERS
from regate_adapters.opa.acceptance.syntax import Policies
from regate_adapters.opa.engine import OpaEngine
from regate_adapters.opa.process import ManagedOpa
from regate_adapters.opa.source import BrokenPolicy, PolicySource, read_source
from regate_gateway.policy.absences import absence_warnings
from regate_gateway.policy.agreement import LISTINGS, Compiled, Effort, Support, compile_all, disagreements, fragment_findings, support
from regate_gateway.policy.entrypoints import entrypoint_findings, required_rules
from regate_gateway.policy.findings import Outcome, not_run, outcome, warned
from regate_gateway.policy.opa_command import OpaCommand
from regate_gateway.policy.parsing import parse_policies
from regate_gateway.policy.renderers import ROWS_IN_SQL
from regate_gateway.policy.samples import Sample, built_in_samples
from regate_gateway.policy.tools import check_format, check_types, run_regal, run_tests
from regate_orchestrator.errors import ConfigurationError, PolicyUnavailable
from regate_orchestrator.schema import RowSchema, load_schema

QUICK: Final = Effort(witnesses=2, others=1)
FULL: Final = Effort(witnesses=12, others=20)

_COMPILE_S: Final = 20.0
_PLACED: Final = re.compile(r"([\w./-]+\.rego):(\d+): (.+)", re.DOTALL)
_SLOW_S: Final = 1.0
_VERSION: Final = 2
_ASKED: Final = frozenset(listing.unknown for listing in LISTINGS)

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Task:
    """What to check, and how thoroughly. `shown` is how the policies are named in the report.

    `deployed` are the kinds of store that must apply every filter exactly.
    """

    directory: Path
    shown: str
    opa: Path
    tests: Path | None
    samples: Sequence[Sample]
    effort: Effort
    deployed: frozenset[str]


@dataclass(slots=True)
class Report:
    """What the checks came to, in their order."""

    policy: str
    revision: str
    outcomes: list[Outcome] = field(default_factory=list)
    stores: list[Support] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Return whether no check failed."""
        return all(one.status != "failed" for one in self.outcomes)


def check_policies(task: Task, progress: Progress) -> Report:
    """Return the report on a policy directory. `progress` is told the name of each check that begins after the first second.

    Raises `ConfigurationError` when OPA itself does not run.
    """
    opa = OpaCommand(task.opa, task.directory)
    try:
        source = read_source(task.directory)
    except BrokenPolicy as error:
        return Report(task.shown, "", [outcome("files", "", [Finding("no-policies", error.message, task.shown)])])
    report = Report(task.shown, source.revision)
    run = _Run(report, progress)
    names = sorted(name for name in source.files if name.endswith(".rego"))
    policies, broken = parse_policies(names, opa)
    if run.add("syntax", lambda: outcome("syntax", f"{len(names)} files", broken)).findings:
        return report
    tests = task.tests
    folders = [Path(), *([tests] if tests is not None and tests != task.directory else [])]
    run.add("format", lambda: check_format(opa, folders))
    types = run.add("types", lambda: check_types(opa))
    run.add("tests", lambda: run_tests(opa, tests))
    run.add("regal", lambda: run_regal(opa, folders))
    run.add("entrypoints", lambda: outcome("entrypoints", f"all {len(required_rules())}", entrypoint_findings(policies)))
    schemas, faults = read_schemas(task.directory)
    run.add("schemas", lambda: outcome("schemas", f"{len(schemas)} kinds of row", faults))
    authoring = run.add("authoring", lambda: outcome("authoring", "within the filter fragment", authoring_findings(policies, schemas)))
    controls = run.add("controls", lambda: outcome("controls", "all there", list(control_findings(policies, source.files))))
    run.add("absences", lambda: warned("absences", "nothing is granted for want of a value", absence_warnings(policies)))
    # What may not be loaded is not compiled either.
    if types.findings or authoring.findings or controls.findings or not schemas.keys() >= _ASKED:
        report.outcomes += [not_run(name, "mend the findings above first") for name in ("filters", "stores", "agreement")]
        return report
    samples = [*built_in_samples(policies, _documents(source)), *task.samples]
    _check_filters(task, run, policies, schemas, samples)
    return report


def read_schemas(directory: Path) -> tuple[dict[str, RowSchema], list[Finding]]:
    """Return the readable row schemas by the row's name, and what is wrong with them: rows are stamped closed-world, with every field."""
    schemas: dict[str, RowSchema] = {}
    findings: list[Finding] = []
    for kind in (one.unknown for one in FILTERS):
        file = f"schemas/{kind}.json"
        if kind not in _ASKED and not (directory / file).exists():
            continue
        try:
            schema = load_schema(directory / file)
        except ConfigurationError as error:
            findings.append(Finding("schema-unreadable", f"{error.message}; give each field one type that stores can hold", file))
            continue
        schemas[kind] = schema
        optional = [name for name, spec in schema.fields.items() if not spec.required]
        if optional:
            message = f"{', '.join(optional)} may be missing, and then stores and OPA differ; list every field under `required`"
            findings.append(Finding("schema-not-closed", message, file))
        if json.loads((directory / file).read_text(encoding="utf-8")).get("additionalProperties") is not False:
            findings.append(Finding("schema-not-closed", "other fields are let through; set `additionalProperties` to false", file))
    return schemas, findings


def exactness(stores: Sequence[Support], deployed: frozenset[str]) -> Outcome:
    """Return where a deployed kind of store cannot apply a filter; a kind that could not be tried has not been shown to."""
    findings = [
        Finding("not-expressible", f"{one.kind} cannot apply the filter for {one.sample}: {one.reason}", f"regate/{one.package}")
        for one in stores
        if not one.exact and one.kind in deployed
    ]
    findings += [
        Finding(
            "store-not-tried", f"filters for {kind} cannot be tried here: install what it needs, or name other kinds with --store", kind
        )
        for kind in sorted(deployed - {one.kind for one in stores})
    ]
    return outcome("stores", f"exact in {', '.join(sorted(deployed))}", findings)


class _Run:
    """Adds outcomes to a report, and tells of checks that begin late."""

    def __init__(self, report: Report, progress: Progress) -> None:
        self._report = report
        self._progress = progress
        self._began = time.monotonic()

    def add(self, name: str, check: Callable[[], Outcome]) -> Outcome:
        """Run the check and note its outcome."""
        self.tell(name)
        done = check()
        self._report.outcomes.append(done)
        return done

    def tell(self, name: str) -> None:
        """Tell of what begins now, if the checks are slow so far."""
        if time.monotonic() - self._began > _SLOW_S:
            self._progress(name)

    def support(self, found: Sequence[Support]) -> None:
        """Note which stores apply the filters."""
        self._report.stores = list(found)


def _check_filters(task: Task, run: _Run, policies: Policies, schemas: Mapping[str, RowSchema], samples: Sequence[Sample]) -> None:
    compiled: list[Compiled] = []

    def filters() -> Outcome:
        try:
            compiled.extend(asyncio.run(_compile(task, schemas, samples)))
        except (ConfigurationError, PolicyUnavailable) as error:
            detail = error.detail if isinstance(error, PolicyUnavailable) else error.message
            placed = _PLACED.fullmatch(detail)
            found = (
                Finding("not-compiled", detail, ".") if placed is None else Finding("not-compiled", placed[3], placed[1], int(placed[2]))
            )
            return outcome("filters", "", [found])
        return outcome("filters", f"{len(compiled)}, for {len(samples)} principals", fragment_findings(compiled, _places(policies)))

    def stores() -> Outcome:
        try:
            found = support(compiled, schemas)
        except ConfigurationError as error:
            return outcome("stores", "", [Finding("not-storable", error.message, "schemas")])
        run.support(found)
        return exactness(found, task.deployed)

    def agreement() -> Outcome:
        opa = OpaCommand(task.opa, task.directory)
        tried, findings = disagreements(compiled, schemas, opa=opa, effort=task.effort)
        return outcome("agreement", f"filter and decision agree on {tried} rows", findings)

    run.add("filters", filters)
    if compiled:
        run.add("stores", stores)
        run.add("agreement", agreement)


async def _compile(task: Task, schemas: Mapping[str, RowSchema], samples: Sequence[Sample]) -> list[Compiled]:
    async with (
        ManagedOpa(task.directory, opa=task.opa) as managed,
        OpaEngine(managed.address, schemas=schemas, deadline_s=_COMPILE_S) as engine,
    ):
        return await compile_all(engine, samples, schemas)


def _places(policies: Policies) -> dict[str, tuple[str, int]]:
    found: dict[str, tuple[str, int]] = {}
    for path, definitions in policies.rules.items():
        first = next((one for one in definitions if not one.is_default), definitions[0])
        found[".".join(path)] = (first.module.file, first.row)
    return found


def _documents(source: PolicySource) -> list[Any]:
    """Return the operators' documents, wherever they lie. One that cannot be read is left to OPA's own check, and its names are not known here."""
    documents: list[Any] = []
    for name, content in source.files.items():
        if Path(name).name == "data.json":
            try:
                documents.append(json.loads(content))
            except ValueError:
                continue
    return documents


# ---------------------------------------------------------------- printing


def deployed_kinds(vector_kinds: frozenset[str]) -> frozenset[str]:
    """Return the kinds of store that a gateway with these kinds of vector store applies filters in."""
    return vector_kinds | {ROWS_IN_SQL}


def as_text(report: Report) -> str:
    """Return the report for people: a line for each check, the stores, then the findings and the warnings."""
    words = {"ok": "ok", "failed": "FAILED", "not_run": "not run"}
    lines = [f"policy {one.name:<12} {words[one.status]:<8} {one.summary}" for one in report.outcomes]
    lines += [f"  {one.package:<9} {one.kind:<12} {_support_text(one)}" for one in report.stores]
    findings = [finding for one in report.outcomes for finding in one.findings]
    warnings = [f"warning: {one}" for outcome in report.outcomes for one in outcome.warnings]
    return "\n".join([*lines, *(["", *map(str, findings)] if findings else []), *(["", *warnings] if warnings else [])])


def _support_text(one: Support) -> str:
    return "exact" if one.exact else f"rejected for {one.sample}, because {one.reason}"


def as_document(report: Report) -> dict[str, Any]:
    """Return the report as a JSON document; its shape changes only together with `version`."""
    return {
        "version": _VERSION,
        "ok": report.ok,
        "policy": report.policy,
        "content": report.revision,
        "checks": [
            {
                "name": one.name,
                "status": one.status,
                "summary": one.summary,
                "findings": _as_documents(one.findings),
                "warnings": _as_documents(one.warnings),
            }
            for one in report.outcomes
        ],
        "stores": [
            {"rule": f"regate.{one.package}.allow", "store": one.kind, "exact": one.exact, "principal": one.sample, "reason": one.reason}
            for one in report.stores
        ],
    }


def _as_documents(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    return [{"file": one.file, "row": one.row, "code": one.code, "message": one.message} for one in findings]
