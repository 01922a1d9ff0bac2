"""Using a prompt in a request: `prompt: {id, version, variables}` becomes the fields that its template holds,
once the caller may use it.

What comes out is an ordinary request, so everything in a template is checked and decided as if the caller had
written it: models, tools, stores, files. How prompts are managed is `handlers.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, cast

from regate_gateway.http.fields import Fields
from regate_gateway.http.misfits import json_kind
from regate_gateway.routes.authorized_fetch import fetch_prompt, fetch_prompt_version
from regate_gateway.routes.call import Caller
from regate_gateway.routes.responses.input_items import LONGEST, read_input_item, read_part
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.prompt_templates import Value, filled, require_values
from regate_orchestrator.values import Json, JsonObject

_PLACE: Final = "prompt.variables"
_MAX_NAME: Final = 64
_PARTS: Final = ("input_text", "input_image", "input_file")


async def resolve_prompt(caller: Caller, body: dict[str, Json]) -> dict[str, Json]:
    """Return the body with its prompt's template merged in, and `prompt` left as the Response repeats it; a
    body without one as it is.

    Raises `NotFound` for a prompt that is absent or that the caller may not use, and `InvalidRequest` for
    variables that do not fit it.
    """
    fields = Fields(body)
    if not fields.has("prompt"):
        return body
    asked = fields.object("prompt")
    asked.refuse_unknown({"id", "version", "variables"})
    identifier = asked.id("id")
    wanted = asked.maybe_id("version")
    values = _values(asked)
    own = _own_input(fields)
    row = await fetch_prompt(caller.services, caller.context, identifier, "prompt.use", param="prompt.id")
    version = await fetch_prompt_version(caller.services, caller.context, row, wanted, param="prompt.version")
    await caller.services.enforcer.record(
        caller.context, "prompt.used", {"prompt": {"id": row.id, "version": version.version}}
    )
    require_values(version.variables, values, param=_PLACE)
    template = filled(
        version.template, values, most=caller.services.settings.listen.max_body_bytes, param=_PLACE
    )
    merged = template | {name: value for name, value in body.items() if value is not None}
    if "input" in template:
        merged["input"] = [*cast("Sequence[Json]", template["input"]), *own]
    return merged | {
        "prompt": {"id": row.id, "version": str(version.version), "variables": asked.values.get("variables")}
    }


def _values(asked: Fields) -> dict[str, Value]:
    """Return the values of the variables, the parts among them checked. A text part is its text."""
    given = asked.maybe_object("variables")
    return {} if given is None else {name: _value(name, value) for name, value in given.values.items()}


def _value(name: str, value: Json) -> Value:
    place = f"{_PLACE}.{name[:_MAX_NAME]}"
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping):
        message = (
            f"Invalid type for '{place}': expected a string or a content part, but got {json_kind(value)} "
            "instead."
        )
        raise InvalidRequest(message, param=place, code="invalid_type")
    part = Fields(value, path=place)
    kind = part.choice("type", _PARTS, default=None)
    read_part(part, "user")
    return part.string("text", most=LONGEST) if kind == "input_text" else value


def _own_input(fields: Fields) -> Sequence[Json]:
    """Return the request's own items, checked now, while what is wrong with one can be told by the
    place that the client gave it.
    """
    own = fields.values.get("input")
    if isinstance(own, str):
        message: JsonObject = {"role": "user", "content": own}
        return [message]
    items = fields.objects("input", most=10_000)
    for item in items:
        read_input_item(item)
    return [item.values for item in items]
