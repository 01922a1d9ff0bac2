"""What a caller's quota grants of a response, decided before a model is called."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from regate_orchestrator.errors import PolicyUnavailable
from regate_orchestrator.ports import Backend
from regate_orchestrator.responses.request import Limits, ResponseRequest


@dataclass(frozen=True, slots=True)
class Granted:
    """What a caller's quota grants of a response: the request and the loop's limits, narrowed to it, and the
    backend that spends of it.

    `finalize` must be called when the response has ended, however it did.
    """

    request: ResponseRequest
    limits: Limits
    backend: Backend
    finalize: Callable[[], Awaitable[None]]


Grant: TypeAlias = Callable[[ResponseRequest], Awaitable[Granted]]
"""Decides what of a request is granted, and counts it. Raises the refusal."""


class NullQuota:
    """A backend that takes no call: the loop has it until a quota was granted, so none can be forgotten."""

    def chat(self, *_call: object, **_options: object) -> NoReturn:
        """Refuse the call."""
        raise PolicyUnavailable("a model was to be called without a quota")
