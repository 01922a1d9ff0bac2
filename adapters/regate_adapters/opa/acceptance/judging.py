"""Everything that must be true of policies before they serve, beside OPA's own check of them and the
contract of their rules.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from regate_adapters.opa.acceptance.certainty import certainty_findings
from regate_adapters.opa.acceptance.controls import control_findings
from regate_adapters.opa.acceptance.findings import Finding, one_a_line
from regate_adapters.opa.acceptance.nodes import Node
from regate_adapters.opa.acceptance.reach import FILTERS, Filter, Reach
from regate_adapters.opa.acceptance.rows import row_findings
from regate_adapters.opa.acceptance.syntax import Policies, modules_of
from regate_orchestrator.filters.schema import RowSchema, read_schema


def judged(
    trees: Mapping[str, Node],
    files: Mapping[str, bytes],
    schemas: Mapping[str, RowSchema],
    *,
    guarded: Collection[str],
) -> list[Finding]:
    """Return why the policies may not serve, by file and line; empty when they may.

    `trees` are OPA's syntax trees of the modules, `files` the texts of modules and documents, both by file;
    `schemas` are those of the rows, and `guarded` the steps at which a guard looks at texts.
    """
    policies = Policies(modules_of(trees))
    return _in_order(
        [*authoring_findings(policies, schemas), *control_findings(policies, files, guarded=guarded)]
    )


def authoring_findings(
    policies: Policies, schemas: Mapping[str, RowSchema], *, filters: Sequence[Filter] = FILTERS
) -> list[Finding]:
    """Return a breach of the authoring rules for each line that has one, by file and line. `schemas`
    are the row schemas by the row's name.
    """
    found: list[Finding] = []
    for one in filters:
        reach = Reach(policies, one)
        found += row_findings(reach, schemas.get(one.unknown))
        found += certainty_findings(reach, schemas)
    return _in_order(found)


def schemas_in(files: Mapping[str, bytes]) -> dict[str, RowSchema]:
    """Return the row schemas among the files, by the row's name. Raises `ConfigurationError` for one
    that is none.
    """
    named = {one.unknown: f"schemas/{one.unknown}.json" for one in FILTERS}
    return {row: read_schema(row, files[name], name=name) for row, name in named.items() if name in files}


def in_words(findings: Iterable[Finding]) -> str:
    """Return the findings for a log, one a line: the first must do by itself."""
    return "\n".join(map(str, findings))


def _in_order(found: Iterable[Finding]) -> list[Finding]:
    return sorted(one_a_line(found), key=lambda finding: (finding.file, finding.row, finding.code))
