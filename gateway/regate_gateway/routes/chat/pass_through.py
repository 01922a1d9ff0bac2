"""An upstream's answer on its way to the client: its bytes as they come, known to be an answer (the
adapter's part), metered as they pass.
"""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from regate_gateway.http import sse
from regate_gateway.http.connection import while_connected
from regate_gateway.http.errors import describe, log_error
from regate_gateway.routes.chat.usage import UsageTap
from regate_gateway.services import Answering
from regate_orchestrator.quota.metering import Spending

_JSON: Final = [(b"content-type", b"application/json")]
_TIER: Final = b'"service_tier"'
_BEGINNING: Final = re.compile(rb'\A(\s*)\{\s*"')
_EVENTS_BEGINNING: Final = re.compile(rb'^(data: ?)\{\s*"', re.MULTILINE)


class PassThrough(Response):
    """Sends the answer. The upstream's connection is closed with the client's.

    `default_tier`: a tier of service was asked for that the upstream is not told of, so the answer says that
    it is of the default one. `is_noted`: whoever gives the answer has told the tap of the bytes.
    """

    def __init__(
        self,
        answer: Answering,
        stack: AsyncExitStack,
        spending: Spending,
        tap: UsageTap,
        *,
        request_id: str,
        default_tier: bool,
        is_noted: bool = False,
    ) -> None:
        super().__init__(status_code=200)
        self._answer = answer
        self._stack = stack
        self._spending = spending
        self._tap = tap
        self._request_id = request_id
        self._default_tier = default_tier
        self._note = None if is_noted else tap.note

    # The ASGI signature
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the answer. An upstream that breaks off ends the connection too, so that a cut answer
        cannot pass for a whole one.
        """
        try:
            async with self._stack:
                await while_connected(scope, self._send(send))
        finally:
            await self._spending.used(self._tap.used())
            await self._spending.end()

    async def _send(self, send: Send) -> None:
        is_stream = self._answer.is_stream
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": list(sse.HEADERS) if is_stream else _JSON,
            }
        )
        to_label, held = self._default_tier, b""
        async for chunk in self._answer.chunks():
            if self._note is not None:
                self._note(chunk)
            body = (
                _in_default_tier(chunk, _EVENTS_BEGINNING if is_stream else _BEGINNING) if to_label else chunk
            )
            to_label = to_label and is_stream  # a plain answer has one beginning
            if not is_stream:  # what comes last goes out together with its end
                body, held = held, body
                if not body:
                    continue
            await send({"type": "http.response.body", "body": body, "more_body": True})
        if (failure := self._answer.failure) is not None:  # told amid the stream, and so told amid ours
            log_error(failure, request_id=self._request_id)
            await send(
                {
                    "type": "http.response.body",
                    "body": sse.encode_data(describe(failure).body()),
                    "more_body": True,
                }
            )
        await send({"type": "http.response.body", "body": held, "more_body": False})


def _in_default_tier(chunk: bytes, beginning: re.Pattern[bytes]) -> bytes:
    """Return the answer, or these events of it, saying that they are of the default tier, unless they
    say themselves of which they are.
    """
    return chunk if _TIER in chunk else beginning.sub(rb'\1{"service_tier":"default","', chunk)
