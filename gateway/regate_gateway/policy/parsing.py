"""The policy files of a directory, parsed one by one, so that each that does not parse is told of. What the trees hold is others' business."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from regate_adapters.opa.acceptance.findings import Finding
from regate_adapters.opa.acceptance.syntax import Policies, modules_of
from regate_gateway.policy.opa_command import OpaCommand, reported_errors


def parse_policies(names: Sequence[str], opa: OpaCommand) -> tuple[Policies, list[Finding]]:
    """Return the policies in these files of OPA's directory, and a finding for each file that does not parse."""
    trees: dict[str, Any] = {}
    findings: list[Finding] = []
    for name in names:
        said = opa.run("parse", "--format", "json", "--json-include", "locations,-comments", name)
        if said.status:
            findings += reported_errors(said, "syntax")
        else:
            trees[name] = json.loads(said.out)
    return Policies(modules_of(trees)), findings
