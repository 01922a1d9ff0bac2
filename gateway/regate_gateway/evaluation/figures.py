"""What was measured, as a report holds it. `as_json` of a report is stable within its `version`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Quality:
    """How well the questions of a tenant, or of all (None), are answered in a mode: means over questions."""

    tenant: str | None
    mode: str
    questions: int
    recall_1: float
    recall_5: float
    recall_10: float
    mrr: float
    ndcg_10: float


@dataclass(frozen=True, slots=True)
class Leak:
    """A hit of a search that was not the searcher's to find."""

    searcher: str
    owners: Sequence[str]
    mode: str
    query: str
    file_id: str
    filename: str


@dataclass(slots=True)
class Probes:
    """Searches whose hits were judged: those of `kind`, how many there were, and how many of them leaked."""

    kind: str
    probes: int = 0
    leaks: int = 0
    hits: int = 0
    unattributed: int = 0
    upper_bound: float = 1.0


@dataclass(frozen=True, slots=True)
class Filtered:
    """Recall where a client's filter permits a share of the canaries. `breaches` are hits outside it."""

    percent: float
    mode: str
    permitted: int
    canaries: int
    asked: int
    recall_10: float
    breaches: int


@dataclass(frozen=True, slots=True)
class Revoked:
    """How soon a change is in force. `late` counts searches after its answer that knew nothing of it,
    `never` changes that were given up.
    """

    change: str
    mode: str
    changes: int
    answer_p50_ms: float
    answer_p95_ms: float
    effect_p50_ms: float
    effect_p95_ms: float
    late: int
    never: int


@dataclass(frozen=True, slots=True)
class Latency:
    """How long searches took in a mode, one at a time, as a client sees it."""

    mode: str
    searches: int
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Decided:
    """How long the gateway waited for OPA while searches ran, by kind of exchange; percentiles are estimated
    within the histogram's buckets.
    """

    kind: str
    exchanges: int
    per_search: float
    mean_ms: float
    p50_ms: float
    p95_ms: float


@dataclass(slots=True)
class Report:
    """All of it. What could not be measured is in `notes`, in words."""

    url: str
    at: str
    regate: str
    tenants: Sequence[str]
    questions: str
    canaries: int
    quality: list[Quality] = field(default_factory=list)
    probes: list[Probes] = field(default_factory=list)
    leaks: list[Leak] = field(default_factory=list)
    filtered: list[Filtered] = field(default_factory=list)
    revoked: list[Revoked] = field(default_factory=list)
    latency: list[Latency] = field(default_factory=list)
    decisions: list[Decided] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    regressions: list[str] = field(default_factory=list)

    @property
    def has_leaked(self) -> bool:
        """Whether anything was found that was not the searcher's to find."""
        return any(one.leaks for one in self.probes)

    @property
    def is_good(self) -> bool:
        """Whether nothing leaked, nothing that was taken back stays, and nothing is worse than before."""
        return not (self.has_leaked or self.stays or self.regressions)

    @property
    def stays(self) -> int:
        """Return how much of what was taken back is found still."""
        return sum(one.never for one in self.revoked)

    def as_json(self) -> Mapping[str, Any]:
        """Return it as JSON."""
        return {"version": VERSION, "ok": self.is_good, **asdict(self)}
