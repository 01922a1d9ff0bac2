"""An answer that passes through, as far as guards let it through. Where nobody looks at answers, their bytes
pass as they come (`pass_through.py`).

An answer is then written anew of the members that are known, since nobody could look into others. A stream is
read in events, and its texts leave in windows (`guarded_choice.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final

import orjson

from regate_gateway.http import sse
from regate_gateway.routes.chat.guarded_choice import ChoiceGuard, guarded_choices
from regate_gateway.services import Answering
from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.errors import RegateError, UpstreamError
from regate_orchestrator.guards.checking import Guards
from regate_orchestrator.ports import GuardStep
from regate_orchestrator.values import Json

OUTPUT_STEPS: Final[frozenset[GuardStep]] = frozenset({"output", "tool_arguments"})
"""The steps at which answers are looked at."""
_HEAD: Final = ("id", "object", "created", "model", "service_tier", "system_fingerprint", "usage")
_DONE: Final = b"[DONE]"
_MAX_BYTES: Final = 16 * 1024 * 1024


class GuardedAnswer:
    """The answer. `note` is told the bytes that come; `count` is how many choices were asked for."""

    def __init__(
        self,
        answer: Answering,
        guards: Guards,
        context: Context,
        *,
        count: int,
        note: Callable[[bytes], None],
    ) -> None:
        self._answer = answer
        self._guards = guards
        self._context = context
        self._count = count
        self._note = note
        self._choices: dict[int, ChoiceGuard] = {}
        self._plain: bytes | None = None
        self.failure: RegateError | None = None

    @property
    def is_stream(self) -> bool:
        """Whether it is a stream of events."""
        return self._answer.is_stream

    async def check(self) -> None:
        """Have a plain answer checked, before anything of it is sent. Raises as `Guards.check` does, and
        `UpstreamError` for what cannot be read.
        """
        if self.is_stream:
            return
        body = bytearray()
        async for chunk in self._answer.chunks():
            self._note(chunk)
            body += chunk
            if len(body) > _MAX_BYTES:
                raise _unreadable(f"an answer of more than {_MAX_BYTES} bytes")
        document = _read(bytes(body))
        choices = await guarded_choices(document.get("choices"), self._guards, self._context)
        self._plain = orjson.dumps({**_head(document), "choices": choices})

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes. What fails amid a stream is told in `failure`."""
        if self._plain is not None:
            yield self._plain
            return
        try:
            async for chunk in self._answer.chunks():
                self._note(chunk)
                for data in _payloads(chunk):
                    async for event in self._event(data):
                        yield event
                if len(self._choices) >= self._count and all(
                    one.is_blocked for one in self._choices.values()
                ):
                    yield sse.DONE
                    return
        except UpstreamError as error:
            if error is not self.failure:
                raise
        except RegateError as error:
            self.failure = error
        if self.failure is None:
            self.failure = self._answer.failure

    async def _event(self, data: bytes | None) -> AsyncIterator[bytes]:
        if data is None:
            yield sse.COMMENT
        elif data == _DONE:
            async for event in self._rest():
                yield event
            yield sse.DONE
        else:
            try:
                document = _read(data)
            except UpstreamError as error:
                self.failure = error
                raise
            for one in await self._rewritten(document):
                yield sse.encode_data(one)

    async def _rest(self) -> AsyncIterator[bytes]:
        """Yield what is left of choices of which the upstream never said that they had ended."""
        for index, guard in self._choices.items():
            for said in await guard.end(None):
                yield sse.encode_data(
                    {"object": "chat.completion.chunk", "choices": [{"index": index, **said}]}
                )

    async def _rewritten(self, document: Mapping[str, Any]) -> list[dict[str, Json]]:
        head = _head(document)
        choices = document.get("choices")
        if not isinstance(choices, list) or not choices:
            return [{**head, "choices": []}]
        usage = head.pop("usage", None)
        told: list[dict[str, Json]] = []
        for choice in choices:
            index = choice.get("index") or 0
            guard = self._choices.setdefault(index, ChoiceGuard(self._guards, self._context))
            told += [{**head, "choices": [{"index": index, **said}]} for said in await guard.take(choice)]
        if "usage" in document and told:
            told[-1] = {**told[-1], "usage": usage}
        elif usage is not None:
            told.append({**head, "choices": [], "usage": usage})
        return told


def _head(document: Mapping[str, Any]) -> dict[str, Json]:
    return {name: document[name] for name in _HEAD if name in document}


def _read(data: bytes) -> Mapping[str, Any]:
    try:
        document = orjson.loads(data)
    except ValueError as error:
        raise _unreadable("no JSON") from error
    if not isinstance(document, dict):
        raise _unreadable("no JSON object")
    return document


def _unreadable(why: str) -> UpstreamError:
    return UpstreamError(
        "The backend's answer could not be read.", detail=f"{why}, which no guard can look at"
    )


def _payloads(events: bytes) -> Iterator[bytes | None]:
    """Yield the data of each of these whole events; None for a comment."""
    for event in events.replace(b"\r\n", b"\n").split(b"\n\n"):
        lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
        if lines:
            yield b"\n".join(lines).strip()
        elif event.strip():
            yield None
