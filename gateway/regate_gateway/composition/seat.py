"""What a worker of `regate serve --workers` is given by its supervisor, as the rest of the gateway sees it.

How they talk is in `workers/`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from regate_adapters.opa.client import OpaAddress
from regate_gateway.telemetry.exposition import Figures


class Seat(Protocol):
    """One worker's place: its number, how many there are, and what the supervisor tells it."""

    async def __aenter__(self) -> Self:
        """Open the line to the supervisor."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        ...

    @property
    def number(self) -> int:
        """Return which of the workers this is, from 1 on."""
        ...

    @property
    def of(self) -> int:
        """Return how many there are."""
        ...

    @property
    def policy(self) -> tuple[OpaAddress, Path] | None:
        """Return where the supervisor's OPA answers, and the directory of the policies in force; None where
        OPA is remote.
        """
        ...

    @property
    def problem(self) -> str | None:
        """Return why the newest policies are not in force; None when they are."""
        ...

    def on_change(self, call: Callable[[], None]) -> None:
        """Have this called whenever the supervisor's OPA takes other policies, or is gone."""
        ...

    def count_with(self, own: Callable[[], Awaitable[Figures]]) -> None:
        """Take what returns this worker's own figures."""
        ...

    async def figures(self) -> Figures:
        """Return the figures of all workers together. Raises `TimeoutError` when the supervisor does not
        answer.
        """
        ...

    async def work(self) -> None:
        """Listen to the supervisor until cancelled; end the process in order when it is gone."""
        ...
