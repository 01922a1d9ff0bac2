"""Reads the items that clients send: as a request's `input`, and into a conversation. What cannot be honoured
is refused by name.

An item read here is in the API's shape, with an id minted by us: ids of clients are never taken over. An
`item_reference` stays one, since what it stands for is looked up and decided later
(`regate_orchestrator.responses.context.authorizing`).
"""

from __future__ import annotations

import re
from typing import Final

from regate_gateway.http.fields import Fields
from regate_orchestrator.documents.data_urls import parse
from regate_orchestrator.documents.file_text import name_of, parse_inline
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.values import Json, JsonObject, mint

LONGEST: Final = 20 * 1024 * 1024
"""Characters of one string inside an item; the body as a whole has a limit of its own."""

_ITEM: Final = frozenset({"type", "id", "status"})
_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/jpg", "image/webp", "image/gif"})
_IMAGE_ADDRESS: Final = re.compile(r"https?://[^\s\x00-\x1f]{1,8192}")
_PHASES: Final = ("commentary", "final_answer")


def read_input_item(item: Fields) -> JsonObject:
    """Return one input item in the API's shape. Raises `InvalidRequest`."""
    kind = item.string("type", most=64) if item.has("type") else _kind_unsaid(item)
    match kind:
        case "message":
            return _message(item)
        case "item_reference":
            item.refuse_unknown({"type", "id"})
            return {"type": kind, "id": item.id("id")}
        case "function_call" | "custom_tool_call":
            return _call(item, kind)
        case "function_call_output" | "custom_tool_call_output":
            item.refuse_unknown({*_ITEM, "call_id", "output", "name", "namespace"})
            call_id = item.id("call_id")
            prefix = "fco_" if kind == "function_call_output" else "ctco_"
            return {
                "id": mint(prefix),
                "type": kind,
                "call_id": call_id,
                "output": _output(item),
                "status": "completed",
            }
        case "reasoning":
            return _reasoning(item)
        case "compaction":
            item.refuse_unknown({*_ITEM, "encrypted_content"})
            return {
                "id": mint("cmp_"),
                "type": kind,
                "encrypted_content": item.string("encrypted_content", most=LONGEST),
            }
        case "file_search_call":
            # What a client says was found is no evidence: it is not taken over, and a search of ours finds
            # again.
            item.refuse_unknown({*_ITEM, "queries", "results"})
            queries = item.strings("queries", most=50, longest=LONGEST)
            return {
                "id": mint("fs_"),
                "type": kind,
                "status": "completed",
                "queries": queries,
                "results": None,
            }
        case _:
            place = item.param("type")
            message = f"Items of type '{kind}' are not supported by this gateway."
            raise InvalidRequest(message, param=place, code="unsupported_parameter")


def user_message(text: str) -> JsonObject:
    """Return a string input as the message item it stands for."""
    return _message_item("user", [_text_part("input_text", text)])


def _kind_unsaid(item: Fields) -> str:
    """Return the type of an item that names none: a message in the easy form, or a bare reference."""
    if item.has("role"):
        return "message"
    return "item_reference" if set(item.values) <= {"type", "id"} and item.has("id") else ""


def _message(item: Fields) -> JsonObject:
    item.refuse_unknown({*_ITEM, "role", "content", "phase"})
    role = item.choice("role", ("user", "system", "developer", "assistant"), default=None)
    # An assistant that said nothing has null here, as it had in the chat completion that it came from.
    content = (
        item.values.get("content")
        if role == "assistant" and "content" in item.values
        else item.required("content")
    )
    kind = "output_text" if role == "assistant" else "input_text"
    parts = (
        [_text_part(kind, content)]
        if isinstance(content, str)
        else [read_part(part, role) for part in item.objects("content", most=1_000)]
    )
    message = _message_item(role, parts)
    return {**message, "phase": item.choice("phase", _PHASES, default=None)} if item.has("phase") else message


def _message_item(role: str, parts: list[JsonObject]) -> JsonObject:
    return {"id": mint("msg_"), "type": "message", "role": role, "status": "completed", "content": parts}


def read_part(part: Fields, role: str) -> JsonObject:
    """Return one content part of a message of this role. Raises `InvalidRequest`."""
    kind = part.string("type", most=64)
    match kind:
        case "input_text" | "output_text" | "text":
            part.refuse_unknown({"type", "text", "annotations", "logprobs"})
            return _text_part(
                "output_text" if role == "assistant" else "input_text", part.string("text", most=LONGEST)
            )
        case "refusal" if role == "assistant":
            part.refuse_unknown({"type", "refusal"})
            return {"type": kind, "refusal": part.string("refusal", most=LONGEST)}
        case "input_image" if role == "user":
            return _image(part)
        case "input_file" if role == "user":
            return _file(part)
        case _:
            message = f"Content parts of type '{kind}' are not supported in messages of role '{role}'."
            raise InvalidRequest(message, param=part.param("type"), code="unsupported_parameter")


def _image(part: Fields) -> JsonObject:
    part.refuse_unknown({"type", "image_url", "file_id", "detail"})
    detail = part.choice("detail", ("auto", "low", "high", "original"), default="auto")
    if _one_of(part, "image_url", "file_id") == "file_id":
        return {"type": "input_image", "file_id": part.id("file_id"), "detail": detail}
    return {"type": "input_image", "image_url": image_address(part, "image_url"), "detail": detail}


def image_address(fields: Fields, name: str) -> str:
    """Return the address of an image: a data URL, or what an upstream might be permitted to fetch."""
    address = fields.string(name, most=LONGEST)
    data = parse(address)
    if not (
        _IMAGE_ADDRESS.fullmatch(address) if data is None else data.media_type in _IMAGES and data.encoded
    ):
        place = fields.param(name)
        message = f"'{place}' must be a data URL of a PNG, JPEG, WebP or GIF image, or an http(s) address."
        raise InvalidRequest(message, param=place, code="invalid_value")
    return address


def _file(part: Fields) -> JsonObject:
    part.refuse_unknown({"type", "file_id", "file_data", "file_url", "filename", "detail"})
    if part.has("file_url"):  # nothing is fetched on a client's word (server-side request forgery)
        place = part.param("file_url")
        raise InvalidRequest(
            f"'{place}' is not supported: upload the file, or send it as 'file_data'.",
            param=place,
            code="unsupported_parameter",
        )
    return file_source(part)


def file_source(part: Fields) -> JsonObject:
    """Return the file that the members name by its id or hold inline, as a content part."""
    name = part.maybe_string("filename", most=512)
    if _one_of(part, "file_id", "file_data") == "file_id":
        return {
            "type": "input_file",
            "file_id": part.id("file_id"),
            **({} if name is None else {"filename": name}),
        }
    data = part.string("file_data", most=LONGEST)
    media_type = parse_inline(data, param=part.param("file_data")).media_type
    return {"type": "input_file", "file_data": data, "filename": name or name_of(media_type) or "file.txt"}


def _one_of(part: Fields, first: str, second: str) -> str:
    if part.has(first) == part.has(second):
        place = part.param(first)
        raise InvalidRequest(
            f"Exactly one of '{place}' and '{part.param(second)}' must be given.",
            param=place,
            code="invalid_value",
        )
    return first if part.has(first) else second


def _text_part(kind: str, text: str) -> JsonObject:
    return (
        {"type": kind, "text": text}
        if kind == "input_text"
        else {"type": kind, "text": text, "annotations": [], "logprobs": []}
    )


def _call(item: Fields, kind: str) -> JsonObject:
    given = "arguments" if kind == "function_call" else "input"
    item.refuse_unsupported("caller")
    item.refuse_unknown({*_ITEM, "call_id", "name", given, "namespace", "caller"})
    text = item.maybe_string(given, most=LONGEST)
    call: dict[str, Json] = {
        "id": mint("fc_" if kind == "function_call" else "ctc_"),
        "type": kind,
        "status": "completed",
        "call_id": item.id("call_id"),
        "name": item.id("name"),
        given: text or ("{}" if kind == "function_call" else ""),
    }
    return {**call, "namespace": item.id("namespace")} if item.has("namespace") else call


def _output(item: Fields) -> Json:
    output = item.required("output")
    if isinstance(output, str):
        return output
    return [read_part(part, "user") for part in item.objects("output", most=1_000)]


def _reasoning(item: Fields) -> JsonObject:
    item.refuse_unknown({*_ITEM, "summary", "content", "encrypted_content"})
    summary = [
        {"type": "summary_text", "text": part.string("text", most=LONGEST)}
        for part in item.objects("summary", most=1_000)
    ]
    body: dict[str, Json] = {"id": mint("rs_"), "type": "reasoning", "summary": summary}
    if item.has("content"):
        texts = [part.string("text", most=LONGEST) for part in item.objects("content", most=1_000)]
        body["content"] = [{"type": "reasoning_text", "text": text} for text in texts]
    if item.has("encrypted_content"):
        body["encrypted_content"] = item.string("encrypted_content", most=LONGEST)
    return body
