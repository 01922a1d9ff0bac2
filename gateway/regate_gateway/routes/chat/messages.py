"""Reads the messages of a chat completion. What is not known in them is refused: a backend would fetch, open
or obey it.

An image or a file becomes the content part that it is in `/v1/responses`, and is decided and read as there,
when it is known who serves the request (`gate.py`). Everything else is sent as it is read here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from regate_gateway.routes.chat.fields import Fields
from regate_gateway.routes.chat.models import CacheBreakpoint, ImageUrl
from regate_gateway.routes.extras import Extras
from regate_gateway.routes.responses.input_items import file_part
from regate_gateway.routes.responses.part_models import LONGEST, FileSource
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.values import Json, JsonObject

_MAX_MESSAGES: Final = 10_000
_MAX_PARTS: Final = 1_000
_MAX_ENCLOSED: Final = 500
_MAX_CALLS: Final = 256
_ROLES: Final = ("developer", "system", "user", "assistant", "tool", "function")
_BREAKPOINT: Final = "prompt_cache_breakpoint"
_REASONING: Final = ("reasoning_content", "reasoning")
_OF_ANY: Final = frozenset({"role", "content", "name"})
_OF_TOOL: Final = _OF_ANY | {"tool_call_id"}
_OF_ASSISTANT: Final = _OF_ANY | {
    "refusal",
    "tool_calls",
    "function_call",
    "annotations",
    "audio",
    *_REASONING,
}


@dataclass(frozen=True, slots=True)
class EnclosedPart:
    """An image or a file in a message: where it stands, how error answers name the place, and what it
    is as a part of `/v1/responses`.
    """

    message: int
    position: int
    place: str
    part: JsonObject
    beside: JsonObject
    """Members that an upstream is said to take beside it."""


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What a tool of the client's returned."""

    place: str
    output: Json


@dataclass(frozen=True, slots=True)
class Messages:
    """The messages as they are sent, but for what is enclosed in them, and for reasoning, which goes
    back only to whom takes it.
    """

    sent: list[dict[str, Json]] = field(default_factory=list)
    enclosed: list[EnclosedPart] = field(default_factory=list)
    outputs: list[ToolOutput] = field(default_factory=list)
    reasoning: dict[int, str] = field(default_factory=dict)
    """Earlier reasoning, by the position of its message."""


def read_messages(fields: Fields, extras: Extras) -> Messages:
    """Return the messages. Raises `InvalidRequest`."""
    found = fields.objects("messages", most=_MAX_MESSAGES)
    if not found:
        raise InvalidRequest("'messages' must be a list with at least one message object.", param="messages")
    messages = Messages()
    for message in found:
        _Reader(messages, extras).read(message)
    if (count := len(messages.enclosed)) > _MAX_ENCLOSED:
        too_many = (
            f"Invalid 'messages': too many images and files. Expected at most {_MAX_ENCLOSED}, but got "
            f"{count}."
        )
        raise InvalidRequest(too_many, param="messages", code="array_above_max_length")
    return messages


class _Reader:
    """Reads one message into those read before."""

    def __init__(self, messages: Messages, extras: Extras) -> None:
        self._messages = messages
        self._extras = extras
        self._read: list[Json] = []

    def read(self, message: Fields) -> None:
        """Add the message."""
        role = message.choice("role", _ROLES, default=None)
        members: dict[str, Json] = {"role": role}
        match role:
            case "assistant":
                members |= self._assistant(message)
            case "tool":
                members |= self._beside(message, _OF_TOOL)
                members |= {
                    "content": self._content(message, self._text),
                    "tool_call_id": message.string("tool_call_id", most=256),
                }
                self._messages.outputs.append(ToolOutput(message.param("content"), members["content"]))
            case "function":
                members |= {**self._beside(message), "content": message.maybe_string("content", most=LONGEST)}
                message.required("name")
                self._messages.outputs.append(ToolOutput(message.param("content"), members["content"] or ""))
            case _:
                read_part = self._user_part if role == "user" else self._text
                members |= {**self._beside(message), "content": self._content(message, read_part)}
        self._messages.sent.append(members)

    def _beside(self, message: Fields, known: frozenset[str] = _OF_ANY) -> dict[str, Json]:
        """Return the name of whoever speaks, and members that an upstream is said to take."""
        others = self._extras.of(message.values, known, path=message.path)
        name = message.maybe_string("name", most=256)
        return others if name is None else {"name": name, **others}

    def _content(self, message: Fields, read_part: Callable[[Fields], JsonObject]) -> Json:
        """Return a message's content: a text, or at least one part."""
        content = message.required("content")
        if isinstance(content, str):
            return message.string("content", most=LONGEST)
        parts = self._parts(message, read_part)
        if not parts:
            place = message.param("content")
            raise InvalidRequest(
                f"'{place}' must be a string, or a list with at least one part.", param=place
            )
        return parts

    def _parts(self, message: Fields, read_part: Callable[[Fields], JsonObject]) -> list[Json]:
        for part in message.objects("content", most=_MAX_PARTS):
            self._read.append(read_part(part))
        return self._read

    def _text(self, part: Fields) -> JsonObject:
        kind = part.string("type", most=64)
        if kind != "text":
            raise _unsupported(part, kind)
        return {"type": kind, **self._of_part(part, "text"), "text": part.string("text", most=LONGEST)}

    def _user_part(self, part: Fields) -> JsonObject:
        match part.string("type", most=64):
            case "image_url":
                place = part.param("image_url")
                image = ImageUrl.read(part.required("image_url"), path=place)
                enclosed: JsonObject = {
                    "type": "input_image",
                    "image_url": image.url,
                    "detail": image.detail,
                }
                return self._enclosed(enclosed, f"{place}.url", self._of_part(part, "image_url"))
            case "file":
                place = part.param("file")
                file = FileSource.read(part.required("file"), path=place)
                held = "file_id" if file.file_data is None else "file_data"
                return self._enclosed(file_part(file), f"{place}.{held}", self._of_part(part, "file"))
            case _:
                return self._text(part)

    def _enclosed(self, part: JsonObject, place: str, beside: JsonObject) -> JsonObject:
        """Note what has to be read, and return what stands in its place until then."""
        self._messages.enclosed.append(
            EnclosedPart(len(self._messages.sent), len(self._read), place, part, beside)
        )
        return part

    def _of_part(self, part: Fields, member: str) -> dict[str, Json]:
        """Return what a part has beside its own member. A breakpoint for a cache is a hint about the
        upstream's, and is not sent on.
        """
        known = {"type", member} if _BREAKPOINT in self._extras.listed else {"type", member, _BREAKPOINT}
        others = self._extras.of(part.values, known, path=part.path)
        if _BREAKPOINT in known and part.has(_BREAKPOINT):
            CacheBreakpoint.read(part.values[_BREAKPOINT], path=part.param(_BREAKPOINT))
        return others

    # ------------------------------------------------------------ the model's own messages

    def _assistant(self, message: Fields) -> dict[str, Json]:
        """Return what a model said, which may be as it was answered: with members that are empty, and
        with its reasoning.
        """
        message.refuse_unsupported("audio")
        message.array("annotations", most=10_000)
        members: dict[str, Json] = {**self._beside(message, _OF_ASSISTANT), "content": self._said(message)}
        if (refusal := message.maybe_string("refusal", most=LONGEST)) is not None:
            members["refusal"] = refusal
        if calls := [self._call(call) for call in message.objects("tool_calls", most=_MAX_CALLS)]:
            members["tool_calls"] = calls
        if (call := message.maybe_object("function_call")) is not None:
            members["function_call"] = self._named(call, "arguments")
        if members["content"] is None and not {"tool_calls", "function_call", "refusal"} & set(members):
            members["content"] = ""  # nothing was said; backends take no null without a call
        for name in _REASONING:
            if reasoning := message.maybe_string(name, most=LONGEST):
                self._messages.reasoning[len(self._messages.sent)] = reasoning
        return members

    def _said(self, message: Fields) -> Json:
        content = message.values.get("content")
        return (
            message.maybe_string("content", most=LONGEST)
            if isinstance(content, str)
            else self._parts(message, self._said_part) or None
        )

    def _said_part(self, part: Fields) -> JsonObject:
        if part.values.get("type") != "refusal":
            return self._text(part)
        return {
            "type": "refusal",
            **self._of_part(part, "refusal"),
            "refusal": part.string("refusal", most=LONGEST),
        }

    def _call(self, call: Fields) -> JsonObject:
        kind = call.choice("type", ("function", "custom"), default="function")
        others = self._extras.of(call.values, {"id", "type", "index", kind}, path=call.path)
        call.maybe_integer("index", least=0, most=100_000)  # left over from a stream
        named = self._named(call.object(kind), "arguments" if kind == "function" else "input")
        return {"id": call.string("id", most=256), "type": kind, kind: named, **others}

    def _named(self, call: Fields, given: str) -> JsonObject:
        others = self._extras.of(call.values, {"name", given}, path=call.path)
        return {"name": call.string("name", most=256), given: call.string(given, most=LONGEST), **others}


def _unsupported(part: Fields, kind: str) -> InvalidRequest:
    message = f"Content parts of type '{kind[:64]}' are not supported in a message of this role."
    return InvalidRequest(message, param=part.param("type"), code="unsupported_parameter")
