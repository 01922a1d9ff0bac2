"""Reads the bodies of `/v1/chat/completions`, `/v1/completions` and `/v1/embeddings`. What cannot be
honoured is refused by name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final, get_args

from regate_gateway.routes.chat.fields import Fields
from regate_gateway.routes.chat.forwarded import (
    MAX_CHOICES,
    MAX_OUTPUT_TOKENS,
    SAMPLING,
    Forwarded,
    read_forwarded,
)
from regate_gateway.routes.chat.messages import read_messages
from regate_gateway.routes.chat.tools import TOOL_FIELDS, read_chat_tools
from regate_gateway.routes.extras import Extras
from regate_gateway.routes.field_hints import IN_CHAT, IN_COMPLETIONS, IN_EMBEDDINGS
from regate_gateway.routes.json_schemas import read_schema
from regate_gateway.routes.responses.models import Effort
from regate_gateway.routes.responses.part_models import LONGEST
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.values import Json, JsonObject

_MAX_LOGPROBS: Final = 20
_MAX_INPUTS: Final = 2_048
_MAX_TOKENS: Final = 1_000_000
_MAX_TOKEN: Final = 2**31 - 1
_STREAM: Final = ("model", "stream", "stream_options")
_CHAT: Final = frozenset(
    {
        *(
            *SAMPLING,
            *_STREAM,
            *TOOL_FIELDS,
            "messages",
            "max_tokens",
            "max_completion_tokens",
            "logprobs",
            "top_logprobs",
        ),
        *("response_format", "reasoning_effort", "verbosity"),
    }
)
_COMPLETION: Final = frozenset(
    {*SAMPLING, *_STREAM, "prompt", "max_tokens", "logprobs", "echo", "suffix", "best_of"}
)
_EMBEDDING: Final = frozenset({"model", "input", "encoding_format", "dimensions", "user"})


def read_chat(body: Mapping[str, Json], *, listed: Collection[str], omit: Collection[str]) -> Forwarded:
    """Return the checked request for a chat completion. Raises `InvalidRequest` naming the field and what to
    change.

    `listed` are the fields that some upstream is said to take beyond the known ones, `omit` the types of
    tools that are left out.
    """
    fields, extras = Fields(body), Extras(frozenset(listed))
    forwarded = read_forwarded(fields, "/chat/completions", _CHAT, extras, hints=IN_CHAT)
    for name in ("max_tokens", "max_completion_tokens"):
        fields.maybe_integer(name, least=1, most=MAX_OUTPUT_TOKENS)
    if fields.has("reasoning_effort"):
        fields.choice("reasoning_effort", get_args(Effort), default=None)
    fields.choice("verbosity", ("low", "medium", "high"), default="medium")
    wanted = _response_format(fields, extras)
    left_out = {"messages", "response_format", *TOOL_FIELDS, *_vacuous_logprobs(fields)}
    kept = {name: value for name, value in forwarded.body.items() if name not in left_out}
    sent = kept if wanted is None else {**kept, "response_format": wanted}
    messages, tools = read_messages(fields, extras), read_chat_tools(fields, extras, omit=omit)
    return replace(forwarded, body=sent, messages=messages, tools=tools)


def read_completion(body: Mapping[str, Json], *, listed: Collection[str]) -> Forwarded:
    """Return the checked request for a completion. Raises `InvalidRequest` as above."""
    fields = Fields(body)
    forwarded = read_forwarded(
        fields, "/completions", _COMPLETION, Extras(frozenset(listed)), hints=IN_COMPLETIONS
    )
    _require_texts_or_tokens(fields, "prompt")
    fields.maybe_integer("max_tokens", least=0, most=MAX_OUTPUT_TOKENS)
    fields.maybe_integer("logprobs", least=0, most=_MAX_LOGPROBS)
    fields.boolean("echo", default=False)
    fields.maybe_string("suffix", most=LONGEST)
    best, wanted = (fields.integer(name, least=1, most=MAX_CHOICES, default=1) for name in ("best_of", "n"))
    if fields.has("best_of") and best < wanted:
        raise InvalidRequest(f"'best_of' must be at least 'n', which is {wanted}.", param="best_of")
    return forwarded


def read_embedding(body: Mapping[str, Json], *, listed: Collection[str]) -> Forwarded:
    """Return the checked request for embeddings. Raises `InvalidRequest` as above."""
    fields = Fields(body)
    forwarded = read_forwarded(
        fields, "/embeddings", _EMBEDDING, Extras(frozenset(listed)), hints=IN_EMBEDDINGS
    )
    _require_texts_or_tokens(fields, "input")
    fields.choice("encoding_format", ("float", "base64"), default="float")
    fields.maybe_integer("dimensions", least=1, most=16_384)
    return forwarded


def _vacuous_logprobs(fields: Fields) -> frozenset[str]:
    """Check the wish for log probabilities, and return the fields that ask for nothing and that
    backends refuse all the same.
    """
    wanted, top = (
        fields.boolean("logprobs", default=False),
        fields.maybe_integer("top_logprobs", least=0, most=_MAX_LOGPROBS),
    )
    if top and not wanted:
        raise InvalidRequest("'top_logprobs' is only allowed when 'logprobs' is true.", param="top_logprobs")
    return frozenset() if wanted else frozenset({"top_logprobs"})


def _response_format(fields: Fields, extras: Extras) -> JsonObject | None:
    wanted = fields.maybe_object("response_format")
    if wanted is None:
        return None
    others = extras.of(wanted.values, {"type", "json_schema"}, path=wanted.path)
    kind = wanted.choice("type", ("text", "json_object", "json_schema"), default=None)
    if kind != "json_schema":
        if wanted.has("json_schema"):
            raise InvalidRequest(
                "'response_format.json_schema' needs the type 'json_schema'.",
                param=wanted.param("json_schema"),
            )
        return {"type": kind, **others}
    inner = wanted.object("json_schema")
    members: dict[str, Json] = {
        **extras.of(inner.values, {"name", "description", "schema", "strict"}, path=inner.path),
        "name": inner.string("name", most=64),
    }
    if (description := inner.maybe_string("description", most=LONGEST)) is not None:
        members["description"] = description
    if inner.has("schema"):
        members["schema"] = read_schema(inner.values["schema"], path=inner.param("schema"))
    if inner.has("strict"):
        members["strict"] = inner.boolean("strict", default=False)
    return {"type": kind, kind: members, **others}


def _require_texts_or_tokens(fields: Fields, name: str) -> None:
    """Raise `InvalidRequest` unless this is a text, several, the numbers of a text's tokens, or those
    of several. None of them is empty.
    """
    value = fields.required(name)
    if isinstance(value, str):
        texts = [fields.string(name, most=LONGEST)]
    elif isinstance(first := next(iter(fields.array(name, most=_MAX_TOKENS)), None), str):
        texts = fields.strings(name, most=_MAX_INPUTS, longest=LONGEST)
    else:
        texts = []
        several = isinstance(first, list)
        for place, tokens in enumerate(fields.array(name, most=_MAX_INPUTS)) if several else [(0, value)]:
            _require_tokens(tokens, f"{name}[{place}]" if several else name)
    if not all(texts):
        raise _no_input(name)


def _require_tokens(tokens: Json, place: str) -> None:
    if not isinstance(tokens, list) or {type(one) for one in tokens} != {int}:
        raise _no_input(place)
    if len(tokens) > _MAX_TOKENS or min(tokens) < 0 or max(tokens) > _MAX_TOKEN:
        raise InvalidRequest(f"'{place}' must be at most {_MAX_TOKENS} numbers of tokens.", param=place)


def _no_input(place: str) -> InvalidRequest:
    message = f"'{place}' must be a text, a list of texts, or numbers of tokens, and none of them empty."
    return InvalidRequest(message, param=place, code="invalid_type")
