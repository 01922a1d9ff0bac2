"""Reads a prompt's template, as it comes in with `POST /v1/prompts`: some fields of a Responses request,
checked as that request's would be.

What a template holds is stored and shown to all who may read the prompt, so tools that carry credentials have
no place in it. Ids of files and vector stores may stand in it: whoever uses the prompt must be allowed to use
them too, which is decided then.
"""

from __future__ import annotations

from typing import Final

import orjson

from regate_gateway.http.fields import Fields
from regate_gateway.routes.responses.request import read_response_request
from regate_orchestrator.errors import InvalidRequest, TooLarge
from regate_orchestrator.prompt_templates import variables_of
from regate_orchestrator.values import Json, JsonObject

_PROMPTING: Final = ("instructions", "input")
_SETTINGS: Final = (
    *("model", "tools", "tool_choice", "parallel_tool_calls", "max_tool_calls", "max_output_tokens"),
    *("temperature", "top_p", "text", "reasoning", "truncation"),
)
_TOOLS: Final = ("function", "custom", "namespace", "file_search")
_MAX_ITEMS: Final = 1_000
_MAX_BYTES: Final = 1024 * 1024
_PLACE: Final = "template"


def read_template(fields: Fields) -> tuple[JsonObject, tuple[str, ...]]:
    """Return the template as it was sent, without its empty fields, and its variables. Raises
    `InvalidRequest` and `TooLarge`.
    """
    sent = fields.object(_PLACE)
    sent.refuse_unknown({*_PROMPTING, *_SETTINGS})
    template = {name: value for name, value in sent.values.items() if value is not None}
    if not any(name in template for name in _PROMPTING):
        raise InvalidRequest(
            f"'{_PLACE}' must hold 'instructions', 'input' or both.",
            param=_PLACE,
            code="missing_required_parameter",
        )
    if len(orjson.dumps(template)) > _MAX_BYTES:
        raise TooLarge(f"'{_PLACE}' is larger than {_MAX_BYTES} bytes.", param=_PLACE)
    _require_messages(sent)
    _refuse_other_tools(sent)
    variables = variables_of(template, param=_PLACE)
    _check_as_request(template)
    return template, variables


def _require_messages(sent: Fields) -> None:
    for item in sent.objects("input", most=_MAX_ITEMS):
        if item.maybe_string("type", most=64) not in (None, "message"):
            place = item.param("type")
            raise InvalidRequest(
                f"'{place}' can only be 'message' in a template.", param=place, code="invalid_value"
            )
        item.required("role")  # an item without type and role would be a reference to a stored one


def _refuse_other_tools(sent: Fields) -> None:
    for tool in sent.objects("tools", most=128):
        if tool.string("type", most=64) not in _TOOLS:
            place = tool.param("type")
            message = (
                f"'{place}' can only be one of {', '.join(_TOOLS)} in a template; send other tools with "
                "the request."
            )
            raise InvalidRequest(message, param=place, code="unsupported_parameter")


def _check_as_request(template: JsonObject) -> None:
    """Have the template read as the request that it will be part of: what would be refused then is
    refused now, under its name here.
    """
    body: dict[str, Json] = {"model": "any", "input": "any", **template}
    try:
        read_response_request(body)
    except InvalidRequest as error:
        if error.param is None:
            raise
        place = f"{_PLACE}.{error.param}"
        raise InvalidRequest(
            error.message.replace(f"'{error.param}", f"'{place}", 1), param=place, code=error.code
        ) from None
