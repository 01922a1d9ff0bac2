"""What gateways tell each other at once, beside what they share in the state store.

A notice says that something changed, never what: whoever hears one looks where the truth is kept. So a notice
that is lost costs time alone, and one that is forged makes somebody look.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, Protocol, TypeAlias, get_args

Topic: TypeAlias = Literal["cancel", "events", "forget"]
"""`cancel`: somebody wants a response cancelled. `events`: a response has news, or has ended. `forget`: what
was remembered of decisions must not be used any more.
"""

TOPICS: Final[tuple[Topic, ...]] = get_args(Topic)

Hear: TypeAlias = Callable[[str], None]
"""Is called with what a notice is about, and with nothing ("") where notices may have been missed: then
everything may have changed. Must return at once, and never raises.
"""


class Notices(Protocol):
    """Tells all other gateways, and hears what they tell."""

    @property
    def is_shared(self) -> bool:
        """Whether notices reach this gateway at present. While they do not it must look for itself."""
        ...

    def subscribe(self, topic: Topic, hear: Hear) -> None:
        """Have this called for every notice of the topic that another gateway tells."""
        ...

    def tell(self, topic: Topic, about: str = "") -> None:
        """Have the other gateways told soon. Keeps nobody waiting, never raises, and may be lost."""
        ...
