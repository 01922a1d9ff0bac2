"""Takes over the body of `POST /v1/responses` as a `ResponseRequest` of the core. What it may hold is
`models.py`. What cannot be honoured is refused by name, never ignored.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from regate_gateway.routes.extras import Extras
from regate_gateway.routes.field_hints import ELSEWHERE, IN_RESPONSES
from regate_gateway.routes.responses.include import ENCRYPTED_REASONING, LOGPROBS
from regate_gateway.routes.responses.input_items import taken_over, user_message
from regate_gateway.routes.responses.models import (
    ConversationNamed,
    CreateResponse,
    ReasoningOptions,
    TextFormat,
    TextOptions,
    WarmUp,
)
from regate_gateway.routes.responses.tool_models import require_set_up, without
from regate_gateway.routes.responses.tools import choice_of, tools_of
from regate_orchestrator.responses.request import Include, ResponseRequest
from regate_orchestrator.values import ConversationId, Json, JsonObject, ResponseId

_KNOWN: Final = CreateResponse.known.union(CreateResponse.unsupported)
_SAMPLING: Final = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
_REPEATED: Final = ("user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention")


def read_warm_up(body: dict[str, Json]) -> bool:
    """Return whether the model is to be called, taking the word for it (`generate`, of WebSockets
    alone) out of the body.
    """
    said = {"generate": body.pop("generate", None), "background": body.get("background")}
    return WarmUp.read(said).generate


def is_padded(body: Mapping[str, Json]) -> bool:
    """Return whether deltas get random padding, so that their sizes tell an eavesdropper less of the text
    (`include_obfuscation`). The body must have been read.
    """
    options = body.get("stream_options")
    return not (isinstance(options, Mapping) and options.get("include_obfuscation") is False)


def read_response_request(
    body: Mapping[str, Json],
    *,
    omit: Collection[str] = (),
    sections: Collection[str] | None = None,
    listed: Collection[str] = (),
) -> ResponseRequest:
    """Return the checked request. Raises `InvalidRequest` naming the field and what to change.

    `omit` are the types of tools that the operator wants left out rather than refused, `listed` the fields
    that some upstream is said to take beyond the known ones. `sections` are those of the settings that set
    tools up; None where what is read is not run.
    A `prompt` must have been resolved before: its template is then in the other fields, and only its echo is
    left.
    """
    extra = Extras(frozenset(listed).difference(ELSEWHERE)).of(body, _KNOWN, hints=IN_RESPONSES)
    known = {name: value for name, value in body.items() if name not in extra} if extra else dict(body)
    if known.get("tools"):
        known["tools"] = without(known["tools"], omit)
        if sections is not None:
            require_set_up(known["tools"], sections)
    asked = CreateResponse.read(known)
    tools = tools_of(asked.tools)
    choice = choice_of(asked.tool_choice, body, tools)
    logprobs = LOGPROBS in asked.include or bool(asked.top_logprobs)
    conversation, previous, reasoning = _conversation(asked), asked.previous_response_id, asked.reasoning
    return ResponseRequest(
        model=asked.model,
        items=_items(asked),
        instructions=asked.instructions,
        previous_response_id=None if previous is None else ResponseId(previous),
        conversation=conversation,
        store=asked.store,
        stream=asked.stream,
        background=asked.background,
        client_tools=tools.client,
        server_tools=tools.server,
        tools_echo=tools.echo,
        tool_choice=choice.sent,
        allowed=choice.allowed,
        parallel_tool_calls=asked.parallel_tool_calls,
        max_tool_calls=asked.max_tool_calls,
        service_tier=asked.service_tier,
        max_output_tokens=asked.max_output_tokens,
        truncation=asked.truncation,
        compact_threshold=min((one.compact_threshold for one in asked.context_management), default=None),
        summarize_reasoning=reasoning is not None and reasoning.wanted_summary is not None,
        forget_reasoning=reasoning is not None and reasoning.context == "current_turn",
        include=Include(frozenset(asked.include), ENCRYPTED_REASONING in asked.include, logprobs),
        sampling=_sampling(asked, logprobs=logprobs),
        extra=extra,
        echo={**_echo(asked, conversation, body), "tool_choice": choice.echo},
    )


def _conversation(asked: CreateResponse) -> ConversationId | None:
    named = asked.conversation
    if named is None:
        return None
    return ConversationId(named.id if isinstance(named, ConversationNamed) else named)


def _items(asked: CreateResponse) -> tuple[JsonObject, ...]:
    if isinstance(asked.input, str):
        return (user_message(asked.input),)
    return taken_over(asked.input or ())


def _sampling(asked: CreateResponse, *, logprobs: bool) -> dict[str, Json]:
    """Return what goes to the upstream in its own spelling."""
    sampling: dict[str, Json] = {
        name: value for name in _SAMPLING if (value := getattr(asked, name)) is not None
    }
    if asked.text is not None:
        if asked.text.verbosity != "medium":
            sampling["verbosity"] = asked.text.verbosity
        if asked.text.format is not None and asked.text.format.type != "text":
            sampling["response_format"] = _response_format(asked.text.format)
    if asked.reasoning is not None and asked.reasoning.effort is not None:
        sampling["reasoning_effort"] = asked.reasoning.effort
    if logprobs:
        sampling |= {"logprobs": True, "top_logprobs": asked.top_logprobs or 0}
    return sampling


def _echo(
    asked: CreateResponse, conversation: ConversationId | None, body: Mapping[str, Json]
) -> dict[str, Json]:
    """Return what the Response repeats."""
    echo: dict[str, Json] = {"metadata": asked.metadata, "truncation": asked.truncation}
    for name in (*_SAMPLING, *_REPEATED):
        if (value := getattr(asked, name)) is not None:
            echo[name] = value
    if asked.top_logprobs:
        echo["top_logprobs"] = asked.top_logprobs
    if asked.prompt_cache_options is not None:
        echo["prompt_cache_options"] = asked.prompt_cache_options.model_dump()
    if asked.text is not None:
        echo["text"] = _text_echo(asked.text)
    if asked.reasoning is not None and (shown := _reasoning_echo(asked.reasoning)) is not None:
        echo["reasoning"] = shown
    if conversation is not None:
        echo["conversation"] = {"id": conversation}
    if asked.prompt is not None:
        echo["prompt"] = body["prompt"]
    return echo


def _response_format(wanted: TextFormat) -> JsonObject:
    if wanted.type != "json_schema":
        return {"type": wanted.type}
    members = {name: value for name, value in _schema_members(wanted).items() if value is not None}
    return {"type": wanted.type, "json_schema": members}


def _schema_members(wanted: TextFormat) -> JsonObject:
    return {
        "name": wanted.name,
        "description": wanted.description,
        "schema": wanted.schema_,
        "strict": wanted.strict,
    }


def _text_echo(text: TextOptions) -> JsonObject:
    kind = "text" if text.format is None else text.format.type
    shown: JsonObject = {"type": kind}
    if text.format is not None and kind == "json_schema":
        shown = {"type": kind, **_schema_members(text.format)}
    return {"format": shown} if text.verbosity == "medium" else {"format": shown, "verbosity": text.verbosity}


def _reasoning_echo(reasoning: ReasoningOptions) -> JsonObject | None:
    said = reasoning.model_dump(include={"mode", "context"}, exclude_none=True)
    if reasoning.effort is None and reasoning.wanted_summary is None and not said:
        return None
    return {"effort": reasoning.effort, "summary": reasoning.wanted_summary, **said}
