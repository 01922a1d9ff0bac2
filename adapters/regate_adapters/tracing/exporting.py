"""How spans leave: through a queue with a bound, in batches, by a thread of the SDK. No request waits for it.

What the SDK drops it does not say, so both ends of its queue are counted here: what has been put in, by the
event loop alone, and what has come out, by the exporting thread alone. Neither needs a lock.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

_log = logging.getLogger("regate.traces")

_BATCH = 128
"""Spans in a batch. To encode one takes tens of milliseconds of the interpreter, in which requests run only
by turns; a larger batch would be no cheaper.
"""
_DELAY_MS = 2_000


class _Counted(SpanExporter):
    """An exporter that counts what came of each span. Its numbers are written by the exporting thread."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self.exported = 0
        self.failed = 0

    @property
    def gone(self) -> int:
        """Return how many spans have left the queue, however they fared."""
        return self.exported + self.failed

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Hand the batch over. Never raises: what goes wrong is counted, and logged without the words of a
        library or a collector.
        """
        try:
            result = self._inner.export(spans)
        except Exception as error:  # noqa: BLE001 - the SDK would log it with all its words
            result = SpanExportResult.FAILURE
            _log.warning("traces_not_exported", extra={"count": len(spans), "cause": type(error).__name__})
        else:
            if result is not SpanExportResult.SUCCESS:
                _log.warning("traces_not_exported", extra={"count": len(spans)})
        if result is SpanExportResult.SUCCESS:
            self.exported += len(spans)
        else:
            self.failed += len(spans)
        return result

    def shutdown(self) -> None:
        """End an attempt that is under way."""
        self._inner.shutdown()


class BoundedExport:
    """The queue and what empties it. `put` is for one thread alone, that of the event loop."""

    def __init__(self, exporter: SpanExporter, *, most: int) -> None:
        self._most = most
        self._counted = _Counted(exporter)
        self._processor = BatchSpanProcessor(
            self._counted,
            max_queue_size=most,
            max_export_batch_size=min(_BATCH, most),
            schedule_delay_millis=_DELAY_MS,
        )
        self._put = 0
        self._closed = False
        self.dropped = 0
        """Spans for which there was no place."""

    @property
    def exported(self) -> int:
        """Return how many spans the collector has taken."""
        return self._counted.exported

    @property
    def failed(self) -> int:
        """Return how many spans could not be handed over."""
        return self._counted.failed

    def put(self, span: ReadableSpan) -> None:
        """Queue the span, or drop it where there is no place. Never waits."""
        if self._closed or self._put - self._counted.gone >= self._most:
            self.dropped += 1
            return
        self._put += 1
        self._processor.on_end(span)

    async def close(self, *, within_s: float) -> None:
        """Hand over what is queued, for no longer than this; count the rest as dropped."""
        self._closed = True
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        def shut() -> None:
            self._processor.shutdown()  # type: ignore[no-untyped-call]  # the SDK's
            with suppress(RuntimeError):  # the loop has ended: nobody waits any more
                loop.call_soon_threadsafe(done.set)

        # A thread of its own, which ends with the process: the SDK's shutdown waits for longer than we do.
        threading.Thread(target=shut, name="regate-traces-end", daemon=True).start()
        try:
            async with asyncio.timeout(within_s):
                await done.wait()
        except TimeoutError:
            self._counted.shutdown()
        if (left := self._put - self._counted.gone) > 0:
            self.dropped += left
            _log.warning("traces_dropped", extra={"count": left})
