"""The output: the Response object and the events that announce it, built item by item. Decides nothing.

Ids and indexes are minted once, at `response.output_item.added`, and never change; the final `output` is the
very list that was streamed (OpenAI API reference, "Responses streaming events"; Open Responses, "Response").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from regate_orchestrator.model_events import Usage
from regate_orchestrator.responses.client_tools.functions import FUNCTION
from regate_orchestrator.responses.client_tools.kind import ClientKind
from regate_orchestrator.responses.request import ClientTool, ResponseRequest
from regate_orchestrator.responses.tools.tool import ServerTool
from regate_orchestrator.values import Json, JsonObject, ResponseId

ItemStatus: TypeAlias = Literal["in_progress", "searching", "completed", "incomplete", "failed"]
Status: TypeAlias = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]

DEFAULTS: Final[Mapping[str, Json]] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_logprobs": 0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "truncation": "disabled",
    "text": {"format": {"type": "text"}},
    "reasoning": None,
    "metadata": {},
    "service_tier": "default",
    "safety_identifier": None,
    "prompt_cache_key": None,
}


@dataclass(frozen=True, slots=True)
class Emitter:
    """The next sequence number and the events written since the machine last handed them over."""

    sequence: int = 0
    written: tuple[JsonObject, ...] = ()

    def write(self, kind: str, **members: Json) -> Emitter:
        """Return the emitter after writing one event."""
        event: JsonObject = {"type": kind, "sequence_number": self.sequence, **members}
        return Emitter(self.sequence + 1, (*self.written, event))

    def handed_over(self) -> Emitter:
        """Return the emitter with nothing written."""
        return replace(self, written=())


@dataclass(frozen=True, slots=True)
class Header:
    """What a Response says of itself beside its output."""

    id: ResponseId
    created_at: int
    request: ResponseRequest

    def response(
        self,
        status: Status,
        output: tuple[JsonObject, ...],
        *,
        usage: Usage | None = None,
        completed_at: int | None = None,
        incomplete: str | None = None,
        error: JsonObject | None = None,
    ) -> JsonObject:
        """Return the Response object in this state, with every member that OpenAI and Open Responses
        require.
        """
        request = self.request
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "completed_at": completed_at,
            "status": status,
            "background": request.background,
            "error": error,
            "incomplete_details": None if incomplete is None else {"reason": incomplete},
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "max_tool_calls": request.max_tool_calls,
            "model": request.model,
            "output": list(output),
            "parallel_tool_calls": request.parallel_tool_calls,
            "previous_response_id": request.previous_response_id,
            "store": request.store,
            "tool_choice": request.tool_choice,
            "tools": list(request.tools_echo),
            **DEFAULTS,
            **request.echo,
            "usage": None if usage is None else usage_object(usage),
        }


def usage_object(usage: Usage) -> JsonObject:
    """Return usage in the API's shape."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


class Text:
    """Text that only grows. Appending shares the pieces already there, so a long stream costs no
    copying; use it linearly.
    """

    __slots__ = ("_count", "_length", "_pieces")

    def __init__(self, pieces: list[str] | None = None, count: int = 0, length: int = 0) -> None:
        self._pieces = [] if pieces is None else pieces
        self._count = count
        self._length = length

    def __add__(self, piece: str) -> Text:
        pieces = self._pieces if len(self._pieces) == self._count else self._pieces[: self._count]
        pieces.append(piece)
        return Text(pieces, self._count + 1, self._length + len(piece))

    def __str__(self) -> str:
        return "".join(self._pieces[: self._count])

    def __len__(self) -> int:
        return self._length


@dataclass(frozen=True, slots=True)
class OpenMessage:
    """A message being written. `held` may be the beginning of a citation marker; `kind` is that of its
    single content part.
    """

    id: str
    index: int
    kind: Literal["output_text", "refusal"]
    text: Text = field(default_factory=Text)
    annotations: tuple[JsonObject, ...] = ()
    logprobs: tuple[JsonObject, ...] = ()
    held: str = ""

    def part(self, *, empty: bool = False) -> JsonObject:
        """Return the content part, as it is or as it was announced."""
        text = "" if empty else str(self.text)
        if self.kind == "refusal":
            return {"type": "refusal", "refusal": text}
        annotations, logprobs = ((), ()) if empty else (self.annotations, self.logprobs)
        return {
            "type": "output_text",
            "text": text,
            "annotations": list(annotations),
            "logprobs": list(logprobs),
        }

    def item(self, status: ItemStatus) -> JsonObject:
        """Return the item; one in progress has no content yet."""
        content = [] if status == "in_progress" else [self.part()]
        return {"id": self.id, "type": "message", "role": "assistant", "status": status, "content": content}


@dataclass(frozen=True, slots=True)
class OpenReasoning:
    """Reasoning being written; `summarized` says that the client gets it as a summary, not as it is."""

    id: str
    index: int
    summarized: bool = False
    text: Text = field(default_factory=Text)

    def item(self, status: ItemStatus) -> JsonObject:
        """Return the item; one in progress has no content yet."""
        written = [] if status == "in_progress" else [str(self.text)]
        head: JsonObject = {"id": self.id, "type": "reasoning", "status": status}
        if self.summarized:
            return {**head, "summary": [{"type": "summary_text", "text": text} for text in written]}
        return {
            **head,
            "summary": [],
            "content": [{"type": "reasoning_text", "text": text} for text in written],
        }


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A tool call being written. `tool` is the client's tool that is called, `server_tool` the one that runs
    here; neither for a tool that is not offered.

    `index` is None for a call that the client does not see: not yet, where it is announced once it is
    decided, or whole; and never, where its tool was not offered, its arguments do not fit, or it is over the
    limit.
    """

    id: str
    index: int | None
    call_id: str
    name: str
    tool: ClientTool | None = None
    server_tool: ServerTool | None = None
    arguments: Text = field(default_factory=Text)

    @property
    def kind(self) -> ClientKind:
        """Return the kind of the client's tool; one that is not offered counts as a function."""
        return FUNCTION if self.tool is None else self.tool.kind

    @property
    def members(self) -> JsonObject | None:
        """Return what the item says of the arguments as they are by now; None where they do not fit."""
        return self.kind.members(str(self.arguments))

    @property
    def is_unseen(self) -> bool:
        """Return whether the client never sees the call."""
        seen = self.index is not None or self.server_tool is not None
        return not seen and (self.tool is None or self.members is None)

    def item(self, status: ItemStatus) -> JsonObject:
        """Return the item of a call of the client's tool, whose arguments must fit; one in progress has none
        yet.
        """
        kind, tool = self.kind, self.tool
        head: dict[str, Json] = {
            "id": self.id,
            "status": status,
            "call_id": self.call_id,
            "type": kind.item_type,
        }
        if kind.is_named:
            head["name"] = self.name if tool is None else tool.name
            head |= {} if tool is None or tool.namespace is None else {"namespace": tool.namespace}
        item = {**head, **(self.members or {})}
        return kind.empty(item) if status == "in_progress" else item
