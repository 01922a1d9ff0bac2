"""Takes over the items that clients send: as a request's `input`, and into a conversation. What they may
hold is `item_models.py`.

An item is then in the API's shape, with an id minted by us: ids of clients are never taken over. An
`item_reference` stays one, since what it stands for is looked up and decided later
(`regate_orchestrator.responses.context.authorizing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from regate_gateway.routes.responses.client_items import SHAPES as CLIENT_SHAPES
from regate_gateway.routes.responses.client_items import ClientItem
from regate_gateway.routes.responses.item_models import (
    CustomToolCall,
    FunctionCall,
    InputItem,
    OwnItem,
    Reasoning,
)
from regate_gateway.routes.responses.part_models import (
    FilePart,
    FileSource,
    ImagePart,
    RefusalPart,
    TextPart,
)
from regate_gateway.routes.responses.server_tools.mcp import McpApprovalRequest, McpApprovalResponse
from regate_gateway.routes.responses.server_tools.registry import ITEMS
from regate_gateway.routes.responses.tool_search import SHAPES as SEARCH_SHAPES
from regate_gateway.routes.responses.tool_search import SearchItem
from regate_orchestrator.documents.file_text import name_of, parse_inline
from regate_orchestrator.values import Json, JsonObject, mint


def taken_over(items: Sequence[InputItem]) -> tuple[JsonObject, ...]:
    """Return the items in the API's shape."""
    return tuple([_taken_over(item) for item in items if item.type != "mcp_list_tools"])


def user_message(text: str) -> JsonObject:
    """Return a string input as the message item it stands for."""
    return _message("user", [{"type": "input_text", "text": text}])


def file_part(file: FileSource) -> JsonObject:
    """Return the file that is named by its id or address, or held inline, as a content part."""
    if file.file_data is None:
        named: JsonObject = {} if file.filename is None else {"filename": file.filename}
        return {"type": "input_file", **file.named, **named}
    name = file.filename or name_of(parse_inline(file.file_data, param="file_data").media_type) or "file.txt"
    return {"type": "input_file", "file_data": file.file_data, "filename": name}


def _taken_over(item: InputItem) -> JsonObject:
    if (registration := ITEMS.get(item.type)) is not None:
        return registration.item(item)
    if item.type in CLIENT_SHAPES:
        return cast("ClientItem", item).taken_over()
    if item.type in SEARCH_SHAPES:
        return cast("SearchItem", item).taken_over()
    return _item(cast("OwnItem", item))


def _item(item: OwnItem) -> JsonObject:
    # By their types, as asking a model for its class is slow
    if item.type == "message":
        role, content = item.role, item.content
        parts = [_text(role, content)] if isinstance(content, str) else _parts(content, role)
        message = _message(role, parts)
        return message if item.phase is None else {**message, "phase": item.phase}
    if item.type == "function_call":
        return _call("fc_", item, {"arguments": item.arguments or "{}"})
    if item.type == "custom_tool_call":
        return _call("ctc_", item, {"input": item.input or ""})
    if item.type == "function_call_output" or item.type == "custom_tool_call_output":
        prefix = "fco_" if item.type == "function_call_output" else "ctco_"
        output = item.output if isinstance(item.output, str) else _parts(item.output, "user")
        kept: JsonObject = {"call_id": item.call_id, "output": output, "status": "completed"}
        return {"id": mint(prefix), "type": item.type, **kept}
    if item.type == "reasoning":
        return _reasoning(item)
    if item.type == "compaction":
        return {"id": mint("cmp_"), "type": item.type, "encrypted_content": item.encrypted_content}
    if item.type == "item_reference":
        return {"type": item.type, "id": item.id}
    if item.type == "mcp_approval_request" or item.type == "mcp_approval_response":
        return _of_server(item)
    raise AssertionError(item.type)


def _of_server(item: McpApprovalRequest | McpApprovalResponse) -> JsonObject:
    if item.type == "mcp_approval_response":
        answer: JsonObject = {"approval_request_id": item.approval_request_id, "approve": item.approve}
        return {"id": mint("mcpa_"), "type": item.type, **answer, "reason": item.reason}
    called: JsonObject = {"server_label": item.server_label, "name": item.name, "arguments": item.arguments}
    return {"id": mint("mcpr_"), "type": item.type, **called, "approval_request_id": item.id}


def _message(role: str, parts: list[JsonObject]) -> JsonObject:
    return {"id": mint("msg_"), "type": "message", "role": role, "status": "completed", "content": parts}


def _parts(
    parts: Sequence[TextPart | RefusalPart | ImagePart | FilePart] | None, role: str
) -> list[JsonObject]:
    return [_part(part, role) for part in parts or ()]


def _part(part: TextPart | RefusalPart | ImagePart | FilePart, role: str) -> JsonObject:
    if part.type == "refusal":
        return {"type": part.type, "refusal": part.refusal}
    if part.type == "input_image":
        source = {"file_id": part.file_id} if part.image_url is None else {"image_url": part.image_url}
        return {"type": part.type, **source, "detail": part.detail}
    if part.type == "input_file":
        return file_part(part)
    return _text(role, part.text)


def _text(role: str, text: str) -> JsonObject:
    if role == "assistant":
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": "input_text", "text": text}


def _call(prefix: str, item: FunctionCall | CustomToolCall, given: JsonObject) -> JsonObject:
    call: dict[str, Json] = {
        "id": mint(prefix),
        "type": item.type,
        "status": "completed",
        "call_id": item.call_id,
        "name": item.name,
        **given,
    }
    return call if item.namespace is None else {**call, "namespace": item.namespace}


def _reasoning(item: Reasoning) -> JsonObject:
    summary = [{"type": "summary_text", "text": part.text} for part in item.summary]
    body: dict[str, Json] = {"id": mint("rs_"), "type": "reasoning", "summary": summary}
    if item.content is not None:
        body["content"] = [{"type": "reasoning_text", "text": part.text} for part in item.content]
    if item.encrypted_content is not None:
        body["encrypted_content"] = item.encrypted_content
    return body
