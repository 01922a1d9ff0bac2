"""What `regate policy check` came to, and how it is printed: for people, as JSON, and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from regate_adapters.opa.acceptance.findings import Finding
from regate_gateway.workbench.check.findings import Outcome
from regate_gateway.workbench.check.support import Support
from regate_gateway.workbench.page import Section, Table, page

_VERSION: Final = 2
_WORDS: Final = {"ok": "ok", "failed": "FAILED", "not_run": "not run"}


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
        return not any(one.failed for one in self.outcomes)

    @property
    def findings(self) -> list[Finding]:
        """Return everything that is wrong."""
        return [finding for one in self.outcomes for finding in one.findings]

    @property
    def warnings(self) -> list[Finding]:
        """Return everything that may be meant otherwise."""
        return [warning for one in self.outcomes for warning in one.warnings]


def as_text(report: Report) -> str:
    """Return the report for people: a line for each check, the stores, then the findings and the warnings."""
    lines = [f"policy {one.name:<12} {_WORDS[one.status]:<8} {one.summary}" for one in report.outcomes]
    lines += [f"  {one.package:<9} {one.kind:<13} {_support_text(one)}" for one in report.stores]
    findings, warnings = list(map(str, report.findings)), [f"warning: {one}" for one in report.warnings]
    return "\n".join([*lines, *(["", *findings] if findings else []), *(["", *warnings] if warnings else [])])


def as_page(report: Report) -> str:
    """Return the report as a page of its own."""
    told = [*(("finding", one) for one in report.findings), *(("warning", one) for one in report.warnings)]
    places = [
        (f"{one.file}:{one.row}" if one.row else one.file, kind, one.code, one.message) for kind, one in told
    ]
    checks = [(one.name, _WORDS[one.status], one.summary) for one in report.outcomes]
    stores = [(one.package, one.kind, _support_text(one)) for one in report.stores]
    verdict = (
        "Nothing was found."
        if not told
        else f"{len(report.findings)} findings, {len(report.warnings)} warnings."
    )
    sections = [
        Section("Findings", Table(("where", "kind", "code", "what to write instead"), places)),
        Section("Checks", Table(("check", "came to", "summary"), checks)),
        Section("Stores", Table(("rule", "store", "filter"), stores)),
    ]
    return page(f"Check of {report.policy}", (verdict, f"Content {report.revision}"), sections)


def _support_text(one: Support) -> str:
    if one.reason is None:
        return "exact"
    return (
        one.reason
        if one.for_everybody or one.sample is None
        else f"{one.reason}, for the sample caller {one.sample.name!r}"
    )


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
            {
                "rule": f"regate.{one.package}.allow",
                "store": one.kind,
                "exact": one.exact,
                "principal": None if one.sample is None else one.sample.name,
                "reason": one.reason,
            }
            for one in report.stores
        ],
    }


def _as_documents(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    return [{"file": one.file, "row": one.row, "code": one.code, "message": one.message} for one in findings]
