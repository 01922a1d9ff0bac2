"""What a policy demands of a tool call that it permits, and what of it the gateway can do. What it cannot do
is a refusal of the call, never silence.

Asked beside the decision (`QUALITIES` qualify it). What is demanded for want of which a policy is not even
loaded is said in `regate_adapters.opa.acceptance.controls`; here is what shows only when a call is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from regate_orchestrator.values import Json, JsonObject

NEEDS_APPROVAL: Final = "needs_approval"
OBLIGATIONS: Final = "obligations"
QUALITIES: Final = (NEEDS_APPROVAL, OBLIGATIONS)
"""The rules that qualify a tool decision."""
_MAX_RESULT_BYTES: Final = "max_result_bytes"
_MAX_DEADLINE_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Demands:
    """What must be done with a permitted call. `unmet` says in words what of it is not done here; a
    call with any must not run.
    """

    max_result_bytes: int
    """The largest result that may enter the prompt."""
    unmet: tuple[str, ...]
    needs_approval: bool
    """Whether the client must approve the call first."""
    deadline_s: float | None = None
    redact: frozenset[str] = frozenset()
    """The members of a structured result whose values no one may see."""
    set_arguments: JsonObject = field(default_factory=dict)
    """Arguments that the call has whatever the model wrote."""
    labels: frozenset[str] = frozenset()
    """The labels that what it returns bears."""
    max_arguments: JsonObject = field(default_factory=dict)
    """The largest that these arguments may be."""

    def rewritten(self, arguments: JsonObject) -> JsonObject:
        """Return the arguments with which the call runs. One that has a largest value and is no number has
        that value.
        """
        capped = {
            name: _capped(arguments[name], most)
            for name, most in self.max_arguments.items()
            if name in arguments
        }
        return {**arguments, **capped, **self.set_arguments}


def demands_of(decision_attributes: Mapping[str, Json]) -> Demands:
    """Return what the rules that qualify an allow demand. A rule that says nothing, or what is not
    understood, demands what nobody can do.
    """
    given = decision_attributes.get(OBLIGATIONS)
    needs_approval = decision_attributes.get(NEEDS_APPROVAL)
    unmet = tuple(_unmet(needs_approval, given))
    if unmet:
        return Demands(0, unmet, needs_approval is True)
    obligations = cast("JsonObject", given)
    deadline = obligations.get("deadline_s")
    return Demands(
        max_result_bytes=cast("int", obligations[_MAX_RESULT_BYTES]),
        unmet=(),
        needs_approval=needs_approval is True,
        deadline_s=None if deadline is None else min(float(cast("float", deadline)), _MAX_DEADLINE_SECONDS),
        redact=frozenset(cast("Sequence[str]", obligations.get("redact", ()))),
        labels=frozenset(cast("Sequence[str]", obligations.get("labels", ()))),
        set_arguments=cast("JsonObject", obligations.get("set_arguments", {})),
        max_arguments=cast("JsonObject", obligations.get("max_arguments", {})),
    )


def _unmet(needs_approval: Json, obligations: Json) -> Iterator[str]:
    if not isinstance(needs_approval, bool):
        yield "needs_approval: is neither true nor false"
    if not isinstance(obligations, Mapping):
        yield "obligations: are no object"
        return
    if _MAX_RESULT_BYTES not in obligations:
        yield f"obligation {_MAX_RESULT_BYTES}: is no whole number"
    for name, value in sorted(obligations.items()):
        if name not in _CHECKS:
            yield f"obligation {name}: is not done here"
        elif not _CHECKS[name][0](value):
            yield f"obligation {name}: {_CHECKS[name][1]}"


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_names(value: Json) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)


def _capped(value: Json, most: Json) -> Json:
    return min(cast("float", value), cast("float", most)) if _is_number(value) else most


_CHECKS: Final[Mapping[str, tuple[Callable[[Json], bool], str]]] = {
    _MAX_RESULT_BYTES: (lambda value: type(value) is int and value >= 0, "is no whole number"),
    "deadline_s": (lambda value: _is_number(value) and cast("float", value) > 0, "is no number above 0"),
    "redact": (_are_names, "is no list of names"),
    "labels": (_are_names, "is no list of names"),
    "set_arguments": (lambda value: isinstance(value, Mapping), "is no object"),
    "max_arguments": (
        lambda value: isinstance(value, Mapping) and all(map(_is_number, value.values())),
        "is no object of numbers",
    ),
}
"""The obligations that are carried out, and what is wrong with those that are not understood."""
