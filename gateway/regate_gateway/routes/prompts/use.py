"""Using a prompt in a request: `prompt: {id, version, variables}` becomes the fields that its template holds,
once the caller may use it.

What comes out is an ordinary request, so everything in a template is checked and decided as if the caller had
written it: models, tools, stores, files. How prompts are managed is `handlers.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, cast

from pydantic import TypeAdapter

from regate_gateway.http.misfits import json_kind, not_among
from regate_gateway.http.models import BUILT_LATER, RequestModel, read_as
from regate_gateway.routes.authorized_fetch import fetch_prompt, fetch_prompt_version
from regate_gateway.routes.call import Caller
from regate_gateway.routes.prompts.models import PromptUse
from regate_gateway.routes.responses.item_models import Input
from regate_gateway.routes.responses.part_models import FilePart, ImagePart, TextPart, UserPart
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.prompt_templates import Value, filled, require_values
from regate_orchestrator.values import Json, JsonObject

_PLACE: Final = "prompt.variables"
_MAX_NAME: Final = 64
_PARTS: Final = ("input_text", "input_image", "input_file")
_PART: Final[TypeAdapter[TextPart | ImagePart | FilePart]] = TypeAdapter(UserPart, config=BUILT_LATER)


async def resolve_prompt(caller: Caller, body: dict[str, Json]) -> dict[str, Json]:
    """Return the body with its prompt's template merged in, and `prompt` left as the Response repeats it; a
    body without one as it is.

    Raises `NotFound` for a prompt that is absent or that the caller may not use, and `InvalidRequest` for
    variables that do not fit it.
    """
    if body.get("prompt") is None:
        return body
    asked = PromptUse.read(body["prompt"], path="prompt")
    values = {name: _value(name, value) for name, value in (asked.variables or {}).items()}
    own = _own_input(body.get("input"))
    services, context = caller.services, caller.context
    row = await fetch_prompt(services, context, asked.id, "prompt.use", param="prompt.id")
    version = await fetch_prompt_version(services, context, row, asked.version, param="prompt.version")
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
    return merged | {"prompt": {"id": row.id, "version": str(version.version), "variables": asked.variables}}


def _value(name: str, value: Json) -> Value:
    """Return the value of a variable, a part checked. A text part is its text."""
    place = f"{_PLACE}.{name[:_MAX_NAME]}"
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping):
        message = (
            f"Invalid type for '{place}': expected a string or a content part, but got {json_kind(value)} "
            "instead."
        )
        raise InvalidRequest(message, param=place, code="invalid_type")
    kind = value.get("type")
    if isinstance(kind, str) and kind not in _PARTS:
        raise not_among(f"{place}.type", kind, _PARTS)
    part = read_as(_PART, value, path=place)
    return part.text if isinstance(part, TextPart) else value


class _OwnInput(RequestModel):
    input: Input | None = None


def _own_input(own: Json) -> Sequence[Json]:
    """Return the request's own items, checked now, while what is wrong with one can be told by the
    place that the client gave it.
    """
    if isinstance(own, str):
        message: JsonObject = {"role": "user", "content": own}
        return [message]
    _OwnInput.read({"input": own})
    return cast("Sequence[Json]", own or ())
