"""Reads the body of `POST /v1/responses` into a `ResponseRequest`. What cannot be honoured is refused by name, never ignored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from regate_gateway.fields import Fields
from regate_orchestrator.client_filters import read_client_filter
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.responses.prompt import FILE_SEARCH
from regate_orchestrator.responses.request import FileSearchTool, FunctionTool, ResponseRequest
from regate_orchestrator.values import Json, JsonObject, ResponseId, StoreId, mint

_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_INCLUDABLE: Final = ("file_search_call.results",)
_EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_ITEM: Final = frozenset({"type", "id", "status"})
_NUMBERS: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}
_KNOWN: Final = frozenset(
    {
        *("model", "input", "instructions", "previous_response_id", "store", "stream", "stream_options", "include", "tools", "tool_choice"),
        *("parallel_tool_calls", "max_tool_calls", "max_output_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty"),
        *("top_logprobs", "text", "reasoning", "metadata", "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
        *("service_tier", "truncation", "background"),
    }
)
_UNSUPPORTED: Final = (
    *("conversation", "prompt", "context_management", "moderation", "background_options", "prompt_cache_options", "access_programs"),
)
_LONGEST: Final = 10_000_000


def read_response_request(body: Mapping[str, Json]) -> ResponseRequest:
    """Return the checked request. Raises `InvalidRequest` naming the field and what to change."""
    fields = Fields(body)
    fields.refuse_unsupported(*_UNSUPPORTED)
    fields.refuse_unknown({*_KNOWN, *_UNSUPPORTED})
    if fields.boolean("background", default=False):
        fields.refuse_unsupported("background")
    functions, file_search, tools_echo = _tools(fields)
    sampling, echo = _sampling(fields)
    include = fields.strings("include", most=20, longest=100)
    for index, name in enumerate(include):
        if name not in _INCLUDABLE:
            raise InvalidRequest(
                f"'include[{index}]' can only be '{_INCLUDABLE[0]}' here.", param=f"include[{index}]", code="invalid_value"
            )
    options = fields.maybe_object("stream_options")
    if options is not None:
        options.refuse_unknown({"include_obfuscation"})
    previous = fields.maybe_string("previous_response_id", most=256)
    return ResponseRequest(
        model=fields.string("model", most=256),
        items=_input(fields),
        instructions=fields.maybe_string("instructions", most=_LONGEST),
        previous_response_id=None if previous is None else ResponseId(previous),
        store=fields.boolean("store", default=True),
        stream=fields.boolean("stream", default=False),
        functions=functions,
        file_search=file_search,
        tools_echo=tools_echo,
        tool_choice=_tool_choice(fields, functions, file_search),
        parallel_tool_calls=fields.boolean("parallel_tool_calls", default=True),
        max_tool_calls=fields.maybe_integer("max_tool_calls", least=1, most=1_000),
        max_output_tokens=fields.maybe_integer("max_output_tokens", least=16, most=10_000_000),
        include_results=bool(include),
        sampling=sampling,
        echo=echo,
    )


def _sampling(fields: Fields) -> tuple[dict[str, Json], dict[str, Json]]:
    """Return what goes to the upstream in its own spelling, and what the Response repeats."""
    sampling: dict[str, Json] = {}
    echo: dict[str, Json] = {"metadata": fields.metadata()}
    for name, (least, most) in _NUMBERS.items():
        value = fields.maybe_number(name, least=least, most=most)
        if value is not None:
            sampling[name] = echo[name] = value
    if fields.maybe_integer("top_logprobs", least=0, most=20):
        fields.refuse_unsupported("top_logprobs")
    for name in ("user", "safety_identifier", "prompt_cache_key"):
        text = fields.maybe_string(name, most=512)
        if text is not None:
            echo[name] = text
    fields.choice("service_tier", ("auto", "default"), default="auto")
    fields.choice("truncation", ("disabled",), default="disabled")
    _text(fields, sampling, echo)
    _reasoning(fields, sampling, echo)
    return sampling, echo


def _text(fields: Fields, sampling: dict[str, Json], echo: dict[str, Json]) -> None:
    text = fields.maybe_object("text")
    if text is None:
        return
    text.refuse_unknown({"format", "verbosity"})
    text.choice("verbosity", ("medium",), default="medium")
    wanted = text.maybe_object("format")
    shown: dict[str, Json] = {"type": "text"}
    if wanted is not None:
        wanted.refuse_unknown({"type", "name", "schema", "description", "strict"})
        kind = wanted.choice("type", ("text", "json_object", "json_schema"), default="text")
        shown = {"type": kind}
        if kind == "json_object":
            sampling["response_format"] = {"type": kind}
        elif kind == "json_schema":
            shown |= {
                "name": wanted.string("name", most=64),
                "description": wanted.maybe_string("description", most=_LONGEST),
                "schema": wanted.object("schema").values,
                "strict": wanted.boolean("strict", default=False),
            }
            schema: dict[str, Json] = {name: value for name, value in shown.items() if name != "type" and value is not None}
            sampling["response_format"] = {"type": kind, "json_schema": schema}
    echo["text"] = {"format": shown}


def _reasoning(fields: Fields, sampling: dict[str, Json], echo: dict[str, Json]) -> None:
    reasoning = fields.maybe_object("reasoning")
    if reasoning is None:
        return
    reasoning.refuse_unsupported("summary", "generate_summary", "mode", "context")
    reasoning.refuse_unknown({"effort", "summary", "generate_summary", "mode", "context"})
    if reasoning.has("effort"):
        effort = reasoning.choice("effort", _EFFORTS, default=None)
        sampling["reasoning_effort"] = effort
        echo["reasoning"] = {"effort": effort, "summary": None}


# ---------------------------------------------------------------- tools


def _tools(fields: Fields) -> tuple[tuple[FunctionTool, ...], FileSearchTool | None, tuple[JsonObject, ...]]:
    functions: dict[str, FunctionTool] = {}
    search: FileSearchTool | None = None
    echo: list[JsonObject] = []
    for tool in fields.objects("tools", most=128):
        kind = tool.string("type", most=64)
        if kind == "function":
            function = _function(tool)
            if function.name == FILE_SEARCH or function.name in functions:
                raise InvalidRequest(f"Two tools cannot have the name '{function.name}'.", param=tool.param("name"))
            functions[function.name] = function
            echo.append(
                {
                    "type": "function",
                    "name": function.name,
                    "description": function.description,
                    "parameters": function.parameters,
                    "strict": function.strict,
                }
            )
        elif kind == FILE_SEARCH:
            if search is not None:
                raise InvalidRequest("Only one 'file_search' tool is allowed; list all stores in it.", param=tool.param("type"))
            search = _file_search(tool)
            echo.append(search.echo)
        else:
            message = f"Tools of type '{kind}' are not supported by this gateway yet; use 'function' or 'file_search'."
            raise InvalidRequest(message, param=tool.param("type"), code="unsupported_parameter")
    return tuple(functions.values()), search, tuple(echo)


def _function(tool: Fields) -> FunctionTool:
    unsupported = ("defer_loading", "output_schema", "allowed_callers", "async")
    tool.refuse_unsupported(*unsupported)
    tool.refuse_unknown({"type", "name", "description", "parameters", "strict", *unsupported})
    name = tool.string("name", most=64)
    if not _TOOL_NAME.fullmatch(name):
        raise InvalidRequest(f"'{tool.param('name')}' must be 1 to 64 of A-Z a-z 0-9 _ -", param=tool.param("name"), code="invalid_value")
    parameters = tool.maybe_object("parameters")
    return FunctionTool(
        name,
        tool.maybe_string("description", most=_LONGEST),
        None if parameters is None else parameters.values,
        tool.boolean("strict", default=False) if tool.has("strict") else None,
    )


def _file_search(tool: Fields) -> FileSearchTool:
    tool.refuse_unknown({"type", "vector_store_ids", "max_num_results", "filters", "ranking_options"})
    stores = tool.strings("vector_store_ids", most=32, longest=256)
    if not stores:
        place = tool.param("vector_store_ids")
        raise InvalidRequest(f"'{place}' must list at least one vector store.", param=place, code="missing_required_parameter")
    limit = tool.integer("max_num_results", least=1, most=50, default=20)
    threshold = read_ranking_options(tool)
    filters = tool.values.get("filters")
    echo: dict[str, Json] = {
        "type": FILE_SEARCH,
        "vector_store_ids": list(stores),
        "max_num_results": limit,
        "ranking_options": {"ranker": "auto", "score_threshold": threshold},
        "filters": filters,
    }
    return FileSearchTool(
        store_ids=tuple(StoreId(store) for store in stores),
        limit=limit,
        threshold=threshold,
        narrowing=read_client_filter(filters, param=tool.param("filters")),
        echo=echo,
    )


def read_ranking_options(fields: Fields) -> float:
    """Return the score threshold; other rankers than the default are refused."""
    options = fields.maybe_object("ranking_options")
    if options is None:
        return 0.0
    options.refuse_unsupported("hybrid_search")
    options.refuse_unknown({"ranker", "score_threshold", "hybrid_search"})
    options.choice("ranker", ("auto", "none", "default-2024-11-15"), default="auto")
    return options.maybe_number("score_threshold", least=0.0, most=1.0) or 0.0


def _tool_choice(fields: Fields, functions: tuple[FunctionTool, ...], search: FileSearchTool | None) -> Json:
    if isinstance(fields.values.get("tool_choice"), str) or not fields.has("tool_choice"):
        return fields.choice("tool_choice", ("auto", "none", "required"), default="auto")
    chosen = fields.object("tool_choice")
    kind = chosen.choice("type", ("function", FILE_SEARCH), default=None)
    if kind == "function":
        chosen.refuse_unknown({"type", "name"})
        name = chosen.string("name", most=64)
        if name not in {function.name for function in functions}:
            raise InvalidRequest(f"'tool_choice' names the function '{name}', which is not among 'tools'.", param="tool_choice")
        return {"type": "function", "name": name}
    chosen.refuse_unknown({"type"})
    if search is None:
        raise InvalidRequest("'tool_choice' names a tool that is not among 'tools'.", param="tool_choice")
    return {"type": FILE_SEARCH}


# ---------------------------------------------------------------- input


def _input(fields: Fields) -> tuple[JsonObject, ...]:
    value = fields.required("input")
    if isinstance(value, str):
        return (_message_item("user", [{"type": "input_text", "text": value}]),)
    items = tuple(_input_item(item) for item in fields.objects("input", most=10_000))
    if not items:
        raise InvalidRequest("'input' must hold at least one item.", param="input")
    return items


def _input_item(item: Fields) -> JsonObject:
    """Return one input item in the API's shape, with an id minted here: ids of clients are never taken over."""
    kind = item.maybe_string("type", most=64) or ("message" if item.has("role") else "")
    match kind:
        case "message":
            return _message(item)
        case "function_call":
            item.refuse_unsupported("namespace", "caller")
            item.refuse_unknown({*_ITEM, "call_id", "name", "arguments", "namespace", "caller"})
            call: JsonObject = {
                "id": mint("fc_"),
                "type": kind,
                "status": "completed",
                "call_id": item.string("call_id", most=256),
                "name": item.string("name", most=64),
                "arguments": item.maybe_string("arguments", most=_LONGEST) or "{}",
            }
            return call
        case "function_call_output":
            item.refuse_unknown({*_ITEM, "call_id", "output"})
            call_id = item.string("call_id", most=256)
            return {"id": mint("fco_"), "type": kind, "call_id": call_id, "output": _output(item), "status": "completed"}
        case "reasoning":
            item.refuse_unknown({*_ITEM, "summary", "content", "encrypted_content"})
            return {"id": mint("rs_"), "type": kind, "summary": []}
        case "file_search_call":
            # What a client says was found is no evidence: it is not taken over, and a search of ours finds again.
            item.refuse_unknown({*_ITEM, "queries", "results"})
            queries = item.strings("queries", most=50, longest=_LONGEST)
            return {"id": mint("fs_"), "type": kind, "status": "completed", "queries": queries, "results": None}
        case _:
            place = item.param("type")
            message = f"Items of type '{kind}' are not supported by this gateway yet."
            raise InvalidRequest(message, param=place, code="unsupported_parameter")


def _message(item: Fields) -> JsonObject:
    item.refuse_unknown({*_ITEM, "role", "content", "phase"})
    role = item.choice("role", ("user", "system", "developer", "assistant"), default=None)
    content = item.required("content")
    kind = "output_text" if role == "assistant" else "input_text"
    if isinstance(content, str):
        return _message_item(role, [_text_part(kind, content)])
    parts = [_part(part, role) for part in item.objects("content", most=1_000)]
    return _message_item(role, parts)


def _message_item(role: str, parts: list[JsonObject]) -> JsonObject:
    return {"id": mint("msg_"), "type": "message", "role": role, "status": "completed", "content": parts}


def _part(part: Fields, role: str) -> JsonObject:
    kind = part.string("type", most=64)
    if kind == "refusal" and role == "assistant":
        part.refuse_unknown({"type", "refusal"})
        return {"type": kind, "refusal": part.string("refusal", most=_LONGEST)}
    if kind not in ("input_text", "output_text", "text"):
        message = f"Content parts of type '{kind}' are not supported by this gateway yet; send text."
        raise InvalidRequest(message, param=part.param("type"), code="unsupported_parameter")
    part.refuse_unknown({"type", "text", "annotations", "logprobs"})
    return _text_part("output_text" if role == "assistant" else "input_text", part.string("text", most=_LONGEST))


def _text_part(kind: str, text: str) -> JsonObject:
    return {"type": kind, "text": text} if kind == "input_text" else {"type": kind, "text": text, "annotations": [], "logprobs": []}


def _output(item: Fields) -> Json:
    output = item.required("output")
    return output if isinstance(output, str) else [_part(part, "user") for part in item.objects("output", most=1_000)]
