"""OpenTelemetry logs as a destination: OTLP over HTTP, in its JSON encoding."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import aiohttp
import orjson

from regate_adapters.audit.export.exporter import ExportFailed
from regate_adapters.audit.export.source import Exported
from regate_adapters.audit.lines import spelt
from regate_orchestrator.values import Json

_DEADLINE_SECONDS: Final = 30.0
_MAX_ANSWER_BYTES: Final = 65_536
_INFO: Final = 9
_ATTRIBUTES: Final = ("kind", "phase", "tenant", "subject", "request_id", "response_id")


class OtlpDestination:
    """A collector. A record's JSON is the body of a log record, and what is searched for its attributes."""

    def __init__(self, url: str, *, writer: str, authorization: str | None = None) -> None:
        self._url = url
        self._writer = writer
        self._headers = {"Content-Type": "application/json", "User-Agent": "regate"}
        if authorization is not None:
            self._headers["Authorization"] = authorization
        self._session: aiohttp.ClientSession | None = None

    async def send(self, batch: Sequence[Exported]) -> int:
        """Post the batch; return how many records the collector says it rejected, which OTLP forbids to send
        again. Raises `ExportFailed`.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_DEADLINE_SECONDS))
        body = spelt(self._request(batch))
        try:
            async with self._session.post(
                self._url, data=body, headers=self._headers, allow_redirects=False
            ) as answer:
                content = await answer.content.read(_MAX_ANSWER_BYTES)
                if answer.status != 200:
                    raise ExportFailed(
                        f"HTTP {answer.status}", retry_after_s=_seconds(answer.headers.get("Retry-After"))
                    )
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ExportFailed(type(error).__name__) from error
        return min(_rejected(content), len(batch))

    async def examine(self) -> str:
        """Post an empty batch. Raises `ExportFailed`."""
        await self.send([])
        return "takes logs"

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
        self._session = None

    def _request(self, batch: Sequence[Exported]) -> Json:
        resource = [_attribute("service.name", "regate"), _attribute("service.instance.id", self._writer)]
        records: list[Json] = [_log_record(one) for one in batch]
        scope: Json = {"scope": {"name": "regate.audit"}, "logRecords": records}
        return {"resourceLogs": [{"resource": {"attributes": resource}, "scopeLogs": [scope]}]}


def _log_record(exported: Exported) -> Json:
    nanoseconds = str(round(datetime.fromisoformat(exported.at).timestamp() * 1_000) * 1_000_000)
    named = [
        _attribute(f"regate.{name}", str(value))
        for name in _ATTRIBUTES
        if (value := exported.record.get(name)) is not None
    ]
    return {
        "timeUnixNano": nanoseconds,
        "observedTimeUnixNano": nanoseconds,
        "severityNumber": _INFO,
        "severityText": "INFO",
        "eventName": "regate.audit",
        "body": {"stringValue": exported.text.decode()},
        **({"traceId": trace} if isinstance(trace := exported.record.get("trace_id"), str) else {}),
        "attributes": [
            {"key": "regate.seq", "value": {"intValue": str(exported.seq)}},
            _attribute("regate.digest", exported.digest),
            *named,
        ],
    }


def _attribute(key: str, value: str) -> Json:
    return {"key": key, "value": {"stringValue": value}}


def _rejected(content: bytes) -> int:
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        answer: Any = orjson.loads(content or b"{}")
        return max(0, int(answer.get("partialSuccess", {}).get("rejectedLogRecords", 0)))
    return 0


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after is not None and retry_after.isdecimal() else 0.0
