"""`Exporter`: the background work that brings every record to one destination, at least once and in order.

Nothing of a request waits for it, and no failure of a destination ends it: it goes on from where it was, also
after a restart.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from regate_adapters.audit.export.cursors import Cursor
from regate_adapters.audit.export.source import Exported, RecordSource

_log = logging.getLogger("regate.audit")

_POLL_SECONDS: Final = 0.5
_FIRST_DELAY_SECONDS: Final = 0.5
_MAX_DELAY_SECONDS: Final = 60.0
_LAST_SECONDS: Final = 5.0


class ExportFailed(Exception):
    """A destination did not take a batch. `why` holds no address, secret, or word of the destination;
    `retry_after_s` is what it asks for.
    """

    def __init__(self, why: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(why)
        self.why = why
        self.retry_after_s = retry_after_s


class Destination(Protocol):
    """Where records go."""

    async def send(self, batch: Sequence[Exported]) -> int:
        """Hand over the batch; when this returns the destination has it, but for as many records as it
        refused for good. The same batch may come again. Raises `ExportFailed`.
        """
        ...

    async def examine(self) -> str:
        """Connect, and return in words what is there; nothing is exported or made. Raises `ExportFailed`."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Exporter:
    """One destination's exporter. Its numbers are for the metrics."""

    def __init__(
        self,
        name: str,
        directory: Path,
        destination: Destination,
        cursor: Cursor,
        *,
        written: Callable[[], int],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self._directory = directory
        self._destination = destination
        self._cursor = cursor
        self._written = written
        self._pause = pause
        self._source: RecordSource | None = None
        self._reading: asyncio.Future[list[Exported]] | None = None
        self._batch: list[Exported] = []
        self._delay_s = _FIRST_DELAY_SECONDS
        self._seq = self._saved = 0
        self.exported = 0
        self.failures = 0
        self.refused = 0

    @property
    def behind(self) -> int:
        """Return how many records the destination does not have yet."""
        return max(0, self._written() - self._seq)

    @property
    def skipped(self) -> int:
        """Return how many records were deleted before they were exported."""
        return 0 if self._source is None else self._source.skipped

    async def work(self) -> None:
        """Export until cancelled. What fails is tried again, later and later, up to a minute. At the end what
        is left is tried once more, for a few seconds.
        """
        try:
            while True:
                await self._pause(await self._step())
        except asyncio.CancelledError:
            await self._finish()
            raise
        finally:
            if self._source is not None:
                self._source.close()
            await self._destination.close()

    async def _finish(self) -> None:
        with suppress(Exception):
            async with asyncio.timeout(_LAST_SECONDS):
                if self._reading is not None:  # begun before the last records were written
                    self._batch = await self._more()
                before = -1
                while (self._batch or self.behind) and self._seq != before:
                    before = self._seq
                    await self._export()
                await self._more()  # which saves the cursor

    async def _step(self) -> float:
        """Do the next thing that is to do; return for how long to pause then."""
        try:
            return await self._export()
        except Exception as error:  # noqa: BLE001 - whatever a destination's library raises ends no gateway
            self.failures += 1
            why = error.why if isinstance(error, ExportFailed) else type(error).__name__
            _log.error("audit_export_failed", extra={"destination": self.name, "cause": why})
            asked = error.retry_after_s if isinstance(error, ExportFailed) else 0.0
            delay = max(self._delay_s * random.uniform(0.5, 1.0), asked)  # noqa: S311 - spreads retries only
            self._delay_s = min(2 * self._delay_s, _MAX_DELAY_SECONDS)
            return min(delay, _MAX_DELAY_SECONDS)

    async def _export(self) -> float:
        began = time.perf_counter()
        if not self._batch:
            self._batch = await self._more()
        took = time.perf_counter() - began
        if not self._batch:
            return _POLL_SECONDS
        refused = await self._destination.send(self._batch)
        self.exported += len(self._batch) - refused
        self.refused += refused
        self._seq, self._batch, self._delay_s = self._batch[-1].seq, [], _FIRST_DELAY_SECONDS
        return took  # reading takes the processor from requests: no more than half of the time

    async def _more(self) -> list[Exported]:
        """Return the next records. A reading whose caller was cancelled goes on, and is the next caller's."""
        if self._reading is None:
            self._reading = asyncio.get_running_loop().run_in_executor(None, self._read)
        await asyncio.wait([self._reading])
        reading, self._reading = self._reading, None
        return reading.result()

    def _read(self) -> list[Exported]:
        """Save how far the destination has the records, and read on."""
        if self._source is None:
            self._seq = self._saved = self._cursor.load()
            self._source = RecordSource(self._directory, after=self._seq)
        if self._seq != self._saved:
            self._cursor.save(self._seq)
            self._saved = self._seq
        before = self._source.skipped
        batch = self._source.more(up_to=self._written())
        if (missing := self._source.skipped - before) > 0:
            _log.error("audit_export_gap", extra={"destination": self.name, "count": missing})
        return batch
