"""The decision points, each stated once: which rule is asked, for which actions, and what goes with it.

Everything else that speaks of decision points is derived from this table: the rules that policies must have,
the filters that are compiled, the batches, the stamps. A test holds it against `rego/` and
`docs/decision-points.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Final

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Contract:
    """What the gateway and the policy agree on at a decision point. Rules are named within its package."""

    actions: tuple[str, ...]
    row: str
    """The input key by which the rule knows the thing that it decides about."""
    filtered: str | None = None
    """The action for which the rule is compiled into a filter, with the row unknown; None where it never is.
    `rego/schemas/<row>.json` describes the row.
    """
    batched: Mapping[str, str] = field(default_factory=lambda: _NONE)
    """The kinds of a batch (`batches.Batch`) that the rule decides, each with its action."""
    reasons: str = "deny_reasons"
    """The rule that says why the point denies."""
    stamps: str | None = None
    """The row that an allow stamps (rule `stamp`), by its schema; None where nothing is stamped."""
    companions: tuple[str, ...] = ()
    """The rules that say how an allow is to be carried out, asked beside the decision."""
    values: tuple[str, ...] = ()
    """The rules that are asked for themselves, and are no yes or no."""
    short: str | None = None
    """The name in audit records and metrics; None where it is the package's."""
    custom: tuple[str, ...] = ("deny",)
    """The rules of `regate.custom` that an overlay may give the point."""


class Point(StrEnum):
    """A decision point: the Rego rule, below `data`, that must be exactly `true` for an allow."""

    ROUTE = "regate/route/allow"
    CHUNK = "regate/chunk/allow"
    STORE = "regate/store/allow"
    FILE = "regate/file/allow"
    PROMPT = "regate/prompt/allow"
    HISTORY = "regate/history/allow"
    INGEST = "regate/ingest/allow"
    TOOL = "regate/tool/allow"
    TOOL_RESULT = "regate/tool/admit_result"
    QUOTA = "regate/quota/limits"
    """No yes or no: the limits, or nothing (`authz/limits.py`)."""
    GUARD = "regate/guard/action"
    """No yes or no: what becomes of a text (`authz/answers.py`)."""
    EGRESS = "regate/egress/allow"
    ADMIN = "regate/admin/allow"

    @property
    def contract(self) -> Contract:
        """Return what goes with the rule."""
        return CONTRACTS[self]

    @cached_property
    def package(self) -> str:
        """Return the package's path below `data`, where the point's other rules live (`deny_reasons`,
        `stamp`, …).
        """
        return self.value.rpartition("/")[0]

    @cached_property
    def short(self) -> str:
        """Return the name used in audit records and metrics, e.g. `store` or `tool.result`."""
        return self.contract.short or self.value.split("/")[1]

    @cached_property
    def is_yes_or_no(self) -> bool:
        """Return whether an allow is exactly `true`: of the quota it is an object of limits, of the guard
        an action.
        """
        return self not in (Point.QUOTA, Point.GUARD)

    @cached_property
    def reasons_rule(self) -> str:
        """Return the rule that says why the point denies."""
        return f"{self.package}/{self.contract.reasons}"

    @property
    def rules(self) -> tuple[str, ...]:
        """Return the paths below `data` of all rules that the gateway asks for at this point."""
        contract = self.contract
        beside = (*contract.companions, *contract.values, *(("stamp",) if contract.stamps else ()))
        return (self.value, self.reasons_rule, *(f"{self.package}/{name}" for name in beside))


CONTRACTS: Final[Mapping[Point, Contract]] = {
    Point.ROUTE: Contract(
        actions=("route.call", "model.list"),
        row="request",
        batched={"models": "model.list"},
        companions=("backend", "obligations"),
    ),
    Point.CHUNK: Contract(
        actions=("chunk.read",),
        row="chunk",
        filtered="chunk.read",
        batched={"chunks": "chunk.read"},
        custom=("deny", "grant"),
    ),
    Point.STORE: Contract(
        actions=(
            "store.create",
            "store.list",
            "store.read",
            "store.search",
            "store.add",
            "store.update",
            "store.delete",
            "store.detach",
        ),
        row="store",
        filtered="store.list",
        batched={"stores": "store.search", "listed_stores": "store.list"},
        stamps="store",
        companions=("placement",),
        custom=("deny", "grant", "stamp"),
    ),
    Point.FILE: Contract(
        actions=("file.upload", "file.create", "file.list", "file.read", "file.delete"),
        row="file",
        filtered="file.list",
        batched={"listed_files": "file.list"},
        stamps="file",
        companions=("limits",),
        custom=("deny", "grant", "stamp"),
    ),
    Point.PROMPT: Contract(
        actions=(
            "prompt.create",
            "prompt.list",
            "prompt.read",
            "prompt.use",
            "prompt.update",
            "prompt.delete",
        ),
        row="prompt",
        filtered="prompt.list",
        batched={"listed_prompts": "prompt.list"},
        stamps="prompt",
        custom=("deny", "grant", "stamp"),
    ),
    Point.HISTORY: Contract(
        actions=(
            "history.reuse",
            "response.read",
            "response.list",
            "response.cancel",
            "response.delete",
            "conversation.create",
            "conversation.read",
            "conversation.update",
            "conversation.delete",
        ),
        row="item",
        filtered="response.list",
        batched={"items": "history.reuse", "listed_responses": "response.list"},
        values=("on_deny", "rests_on"),
        custom=("deny", "grant", "rests_on"),
    ),
    Point.INGEST: Contract(
        actions=("ingest.document",),
        row="document",
        reasons="reject_reasons",
        stamps="chunk",
        custom=("deny", "stamp"),
    ),
    Point.TOOL: Contract(
        actions=("tool.list", "tool.call"),
        row="tool",
        companions=("needs_approval", "obligations"),
        values=("visible",),
        custom=("deny", "approve", "obligations"),
    ),
    Point.TOOL_RESULT: Contract(
        actions=("tool.result",),
        row="result",
        batched={"tool_results": "tool.result"},
        short="tool.result",
        custom=(),
    ),
    Point.QUOTA: Contract(
        actions=("quota.limits", "quota.storage"), row="request", values=("storage",), custom=()
    ),
    Point.EGRESS: Contract(actions=("egress.connect",), row="destination", custom=("deny", "grant")),
    Point.GUARD: Contract(actions=("guard.check",), row="step", values=("redact",), custom=("block",)),
    Point.ADMIN: Contract(actions=("policy.explain", "audit.read", "prompt.manage"), row="operation"),
}

PRINCIPAL: Final = "regate/authn/principal"
"""The rule that makes a principal of verified claims: no decision point, as there is no principal yet."""

BESIDE_POINTS: Final[Mapping[str, tuple[str, ...]]] = {
    "authn": ("principal", "deny_reasons"),
    "lib/batch": ("admitted", "chunk_reasons", "ingested", "document_reasons"),
}
"""The rules that are asked for outside of a decision point, by package below `regate`."""

CUSTOM_BESIDE_POINTS: Final[Mapping[str, tuple[str, ...]]] = {
    "authn": ("deny", "attrs"),
}
"""The rules of `regate.custom` that an overlay may give there."""

FILTERED: Final = tuple(point for point in Point if point.contract.filtered is not None)
"""The points whose rule is compiled into a filter as well."""

ROWS: Final = tuple(point.contract.row for point in FILTERED)
"""The kinds of rows that have a schema in `rego/schemas/`."""


def asked_rules() -> list[str]:
    """Return the paths below `data` of all rules that the gateway asks for.

    Those of points that a deployment does not use yet are among them: what is asked one day must not deny for
    want of a rule.
    """
    of_points = {rule for point in Point for rule in point.rules}
    beside = {f"regate/{package}/{rule}" for package, rules in BESIDE_POINTS.items() for rule in rules}
    return sorted(of_points | beside)


def custom_rules() -> frozenset[str]:
    """Return the rules of an overlay that the shipped rules consult, below `regate.custom`."""
    of_points = {
        point.package.removeprefix("regate/"): point.contract.custom
        for point in Point
        if point.contract.custom
    }
    return frozenset(
        f"{package}/{rule}"
        for package, rules in (*of_points.items(), *CUSTOM_BESIDE_POINTS.items())
        for rule in rules
    )
