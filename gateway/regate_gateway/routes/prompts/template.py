"""Reads a prompt's template, as it comes in with `POST /v1/prompts`: some fields of a Responses request,
checked as that request's would be.

What a template holds is stored and shown to all who may read the prompt, so tools that carry credentials have
no place in it. Ids of files and vector stores may stand in it: whoever uses the prompt must be allowed to use
them too, which is decided then.
"""

from __future__ import annotations

from typing import Final

import orjson

from regate_gateway.routes.prompts.models import TemplateMembers
from regate_gateway.routes.responses.request import read_response_request
from regate_orchestrator.errors import InvalidRequest, TooLarge
from regate_orchestrator.prompt_templates import variables_of
from regate_orchestrator.values import Json, JsonObject

_MAX_BYTES: Final = 1024 * 1024
_PLACE: Final = "template"


def read_template(sent: JsonObject) -> tuple[JsonObject, tuple[str, ...]]:
    """Return the template as it was sent, without its empty fields, and its variables. Raises
    `InvalidRequest` and `TooLarge`.
    """
    TemplateMembers.read(sent, path=_PLACE)
    template = {name: value for name, value in sent.items() if value is not None}
    if len(orjson.dumps(template)) > _MAX_BYTES:
        raise TooLarge(f"'{_PLACE}' is larger than {_MAX_BYTES} bytes.", param=_PLACE)
    variables = variables_of(template, param=_PLACE)
    _check_as_request(template)
    return template, variables


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
