"""The policy files of a directory, parsed side by side, so that each that does not parse is told of.
What the trees hold is others' business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from regate_adapters.opa.acceptance.findings import Finding
from regate_adapters.opa.acceptance.syntax import Policies, modules_of
from regate_adapters.opa.policies.source import BrokenPolicy
from regate_adapters.opa.policies.vetting import parsed_module, side_by_side
from regate_gateway.workbench.opa_command import OpaCommand, reported_errors


def parse_policies(names: Sequence[str], opa: OpaCommand) -> tuple[Policies, list[Finding]]:
    """Return the policies in these files of OPA's directory, and a finding for each line that does
    not parse.
    """
    trees: dict[str, Any] = {}
    findings: list[Finding] = []

    def tree_or_errors(name: str) -> Any:
        try:
            return parsed_module(opa.binary, opa.directory / name)
        except BrokenPolicy:
            return [
                _placed(error, opa)
                for error in reported_errors(opa.run("parse", "--format", "json", name), "syntax")
            ]

    for name, found in zip(names, side_by_side(tree_or_errors, names), strict=True):
        if isinstance(found, list):
            findings += found
        else:
            trees[name] = found
    return Policies(modules_of(trees)), findings


def _placed(error: Finding, opa: OpaCommand) -> Finding:
    """Return the error at a line that is there: OPA places the end of a file behind its last."""
    text = opa.directory / error.file
    return (
        replace(error, row=min(error.row, len(text.read_bytes().rstrip().splitlines())))
        if text.is_file()
        else error
    )
