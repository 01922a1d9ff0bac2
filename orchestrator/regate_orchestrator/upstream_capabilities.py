"""What an upstream can take, and how it wants to be asked: one record, whether a profile says it, the
operator, or the upstream's own refusals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

OutputLimit: TypeAlias = Literal["max_tokens", "max_completion_tokens"]
SystemMessages: TypeAlias = Literal["leading", "anywhere"]
SeedField: TypeAlias = Literal["seed", "random_seed"]
ReasoningField: TypeAlias = Literal["none", "reasoning", "reasoning_content"]


@dataclass(frozen=True, slots=True)
class UpstreamCapabilities:
    """The ways of one upstream. The defaults are what every server of the chat protocol takes."""

    output_limit: OutputLimit = "max_tokens"
    """The field that limits what is written."""
    system_messages: SystemMessages = "leading"
    """`leading`: what system and developer messages say goes into one, at the beginning; `anywhere`:
    they stay where they are.
    """
    stream_usage: bool = True
    """Whether a streamed answer may be asked to tell its usage (`stream_options`)."""
    seed_field: SeedField = "seed"
    """The field that a request's `seed` is sent in."""
    reasoning_field: ReasoningField = "none"
    """The field of an assistant message in which reasoning of earlier turns may be sent back to it;
    `none`: it must not be sent.
    """
    image_urls: bool = False
    """Whether http(s) addresses of images may be passed on, which the upstream then fetches itself,
    from where it stands.
    """
    context_window: int | None = None
    """Tokens that a request and its answer may have together; None: nobody said."""
    service_tiers: bool = False
    """Whether it has tiers of service, and is told which one a client asks for."""
    extra_fields: frozenset[str] = frozenset()
    """Fields beyond the API's own that are passed on to it, wherever in a request they stand."""
