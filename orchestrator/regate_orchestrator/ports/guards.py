"""Looking at the texts of a request: what guards say of them. What follows from it is the policy's to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeAlias, get_args

GuardStep: TypeAlias = Literal["input", "chunk", "tool_arguments", "tool_result", "output"]
"""Where a text is met: sent by the client, found in a store, on its way to a tool or back, or answered."""
GUARD_STEPS: Final[tuple[GuardStep, ...]] = get_args(GuardStep)


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a text, in characters, and the name of what was found there."""

    start: int
    end: int
    name: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What guards say of one text: scores from 0 to 1 by name, labels, and places under these names."""

    scores: Mapping[str, float] = field(default_factory=dict)
    labels: frozenset[str] = frozenset()
    spans: tuple[Span, ...] = ()


class GuardProvider(Protocol):
    """Looks at texts. The texts must not be kept, logged or shown to anybody but whom the operator named."""

    async def look(self, texts: Sequence[str], *, step: GuardStep) -> list[Findings]:
        """Return what there is to say of each text, in their order.

        Every score that the provider can give must be among those of every text. Raises `GuardUnavailable`
        where it cannot say it of all of them.
        """
        ...
