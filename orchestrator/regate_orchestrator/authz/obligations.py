"""What a policy demands of a tool call that it permits, and what of it the gateway can do. What it cannot do
is a refusal of the call, never silence.

Asked beside the decision (`QUALITIES` qualify it). What is demanded for want of which a policy is not even
loaded is said in `regate_adapters.opa.acceptance.controls`; here is what shows only when a call is decided.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from regate_orchestrator.values import Json

NEEDS_APPROVAL: Final = "needs_approval"
OBLIGATIONS: Final = "obligations"
QUALITIES: Final = (NEEDS_APPROVAL, OBLIGATIONS)
"""The rules that qualify a tool decision."""
_MAX_RESULT_BYTES: Final = "max_result_bytes"


@dataclass(frozen=True, slots=True)
class Demands:
    """What must be done with a permitted call. `unmet` says in words what of it is not done here; a
    call with any must not run.
    """

    max_result_bytes: int
    """The largest result that may enter the prompt."""
    unmet: tuple[str, ...]
    needs_approval: bool
    """Whether approval is all that is unmet."""


def demands_of(decision_attributes: Mapping[str, Json]) -> Demands:
    """Return what the rules that qualify an allow demand. A rule that says nothing, or what is not
    understood, demands what nobody can do.
    """
    obligations = decision_attributes.get(OBLIGATIONS)
    most = obligations.get(_MAX_RESULT_BYTES) if isinstance(obligations, Mapping) else None
    needs_approval = decision_attributes.get(NEEDS_APPROVAL)
    unmet = tuple(_unmet(needs_approval, obligations))
    return Demands(most if type(most) is int else 0, unmet, len(unmet) == 1 and needs_approval is True)


def _unmet(needs_approval: Json, obligations: Json) -> Iterator[str]:
    if needs_approval is not False:
        yield "approval_needed: there is nobody to ask"
    if not isinstance(obligations, Mapping):
        yield "obligations: are no object"
        return
    most = obligations.get(_MAX_RESULT_BYTES)
    if type(most) is not int or most < 0:
        yield f"obligation {_MAX_RESULT_BYTES}: is no whole number"
    yield from (
        f"obligation {name}: is not done here" for name in sorted(obligations) if name != _MAX_RESULT_BYTES
    )
