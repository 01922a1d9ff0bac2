"""Warnings of access that is granted for want of a value: which comparisons are told of, which are
not, and what is to be written instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from regate_adapters.opa.acceptance.findings import Finding
from regate_adapters.opa.acceptance.nodes import Node
from regate_adapters.opa.acceptance.reading import parsed_by_command
from regate_adapters.opa.acceptance.syntax import Policies, modules_of
from regate_gateway.workbench.check.absences import absence_warnings
from regate_gateway.workbench.directory import shipped_policies

# what is written, below `package regate.custom.chunk` and an empty line -> the line that is warned of
SILENT: dict[str, tuple[str, int]] = {
    "is another": ("deny if input.chunk.owner != input.principal.attrs.region", 3),
    "mirrored": ("deny if input.principal.attrs.region != input.chunk.owner", 3),
    "is more": ("deny if input.chunk.level > input.principal.attrs.level", 3),
    "is less": ("deny if input.principal.attrs.level < input.chunk.level", 3),
    "is at least": ("deny if input.chunk.level >= input.principal.attrs.level", 3),
    "is not in": ('deny if not "x" in input.principal.attrs.groups', 3),
    "is not in, of the caller": ("deny if not input.principal.id in input.principal.attrs.trusted", 3),
    "under a name": (
        "deny if {\n\tregion := input.principal.attrs.region\n\tinput.chunk.owner != region\n}",
        5,
    ),
    "as a rule's value": (
        "deny if input.chunk.owner != _region\n\n_region := input.principal.attrs.region",
        3,
    ),
    "in a rule behind it": ("deny if _far\n\n_far if input.chunk.owner != input.principal.attrs.region", 5),
    "in a rule behind two negations": (
        "deny if not _open\n\n_open if not _far\n\n_far if input.chunk.owner != input.principal.attrs.region",
        7,
    ),
    "in a set that must be empty": (
        (
            'deny if not _fits\n\n_fits if count(_faults) == 0\n\n_faults contains "x" if '
            'input.principal.attrs.kind != "y"'
        ),
        7,
    ),
    "of an entry": ("deny if input.chunk.level > data.regate.levels[input.principal.tenant]", 3),
    "of a computed value": ('deny if lower(input.principal.attrs.region) != "eu"', 3),
    "a grant unless it is so": ('grant if not input.principal.attrs.kind == "guest"', 3),
    "a grant unless it is there": ("grant if not input.principal.attrs.contractor", 3),
}

HEARD: dict[str, str] = {
    "what must be so": "deny if not _near\n\n_near if input.chunk.owner == input.principal.attrs.region",
    "what must be among": "deny if not _near\n\n_near if input.chunk.owner in input.principal.attrs.regions",
    "what must be less": "deny if not _low\n\n_low if input.chunk.level <= input.principal.attrs.level",
    "what bars those who have it": "deny if input.chunk.owner == input.principal.attrs.barred",
    "what bars those who have it, among": "deny if input.chunk.owner in input.principal.attrs.barred",
    "a value in its place": (
        'deny if input.chunk.owner != object.get(input.principal.attrs, "region", "none")'
    ),
    "a rule with a default": (
        'deny if input.chunk.owner != _region\n\ndefault _region := "none"\n\n_region := '
        "input.principal.attrs.region"
    ),
    "what everybody has": "deny if input.chunk.level > input.principal.clearance",
    "a grant to those who have it": 'grant if input.principal.attrs.kind == "auditor"',
    "a grant to those who have more": "grant if input.principal.attrs.level > input.chunk.level",
}


@pytest.fixture(scope="module")
def trees(opa: Path) -> Mapping[str, Node]:
    """The shipped policies, and each case, parsed at once."""
    shipped = shipped_policies()
    texts = {
        path.relative_to(shipped).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(shipped.rglob("*.rego"))
    }
    cases = {name: body for name, (body, _) in SILENT.items()} | HEARD
    texts |= {f"case/{name}": f"package regate.custom.chunk\n\n{body}\n" for name, body in cases.items()}
    texts["case/of a claim"] = "package regate.custom.authn\n\ndeny if input.claims.mfa != true\n"
    texts["case/of a document"] = (
        'package regate.custom.ingest\n\ndeny if input.document.attributes.region != "eu"\n'
    )
    return parsed_by_command(opa, texts)


def warnings(trees: Mapping[str, Node], name: str | None) -> list[Finding]:
    chosen = {file: tree for file, tree in trees.items() if not file.startswith("case/")}
    if name is not None:
        chosen["custom.rego"] = trees[f"case/{name}"]
    return absence_warnings(Policies(modules_of(chosen)))


@pytest.mark.parametrize("name", SILENT)
def test_a_comparison_with_what_may_be_missing_is_warned_of(trees: Mapping[str, Node], name: str) -> None:
    (warning,) = warnings(trees, name)
    begins = (
        3 if SILENT[name][1] == 5 and "region :=" in SILENT[name][0] else SILENT[name][1]
    )  # these trees know the lines of rules only

    assert (warning.file, warning.row, warning.code) == ("custom.rego", begins, "granted-by-absence")
    assert "may have no" in warning.message
    assert "not _fits" in warning.message or "name that rule" in warning.message


@pytest.mark.parametrize("name", HEARD)
def test_a_rule_that_denies_what_is_missing_is_not_warned_of(trees: Mapping[str, Node], name: str) -> None:
    assert warnings(trees, name) == []


@pytest.mark.parametrize(
    ("name", "says"), [("of a claim", "no claim mfa"), ("of a document", "no attribute region")]
)
def test_claims_and_attributes_of_documents_may_be_missing_too(
    trees: Mapping[str, Node], name: str, says: str
) -> None:
    (warning,) = warnings(trees, name)

    assert says in warning.message


def test_the_shipped_policies_grant_nothing_for_want_of_a_value(trees: Mapping[str, Node]) -> None:
    assert warnings(trees, None) == []
