"""The contract: which rules a policy must have; `authz/points.py` states them. A rule that is missing answers
exactly as one that denies, so its absence is an error here.

`regate policy check` finds what is missing (here), a managed OPA is not started without it
(`regate_adapters.opa.policies.vetting`), and the gateway is not ready while a remote one lacks it
(`regate_adapters.opa.engine`, which also asks for nothing else).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from regate_adapters.opa.acceptance.findings import Finding
from regate_adapters.opa.acceptance.syntax import Policies
from regate_orchestrator.authz.points import asked_rules

_OF_OPA: Final = ("system/authz/allow",)


def required_rules() -> list[str]:
    """Return the paths below `data` of all rules that the gateway, or its OPA, asks for."""
    return sorted([*asked_rules(), *_OF_OPA])


def entrypoint_findings(policies: Policies) -> list[Finding]:
    """Return a finding for each required rule that is missing, or is a function."""
    return list(_findings(policies))


def _findings(policies: Policies) -> Iterator[Finding]:
    for rule in required_rules():
        path = ("data", *rule.split("/"))
        definitions = policies.rules.get(path, [])
        homes = sorted(module.file for module in policies.modules if module.package == path[:-1])
        file = homes[0] if homes else "/".join(path[2:-1] if path[1] == "regate" else path[1:-1])
        if not definitions:
            message = (
                f"{'.'.join(path)} is missing, and OPA answers a missing rule as it answers a denial; "
                "define it, or keep the shipped one"
            )
            yield Finding("missing-entrypoint", message, file)
        elif any(definition.is_function for definition in definitions):
            yield Finding(
                "missing-entrypoint",
                f"{'.'.join(path)} takes arguments, so it cannot be asked for; leave them out",
                file,
            )
