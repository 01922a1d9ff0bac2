"""Reads the body of `POST /v1/responses` into a `ResponseRequest`. What cannot be honoured is refused by
name, never ignored.

Items are read by `input_items.py`, tools by `tools.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from regate_gateway.http.fields import Fields
from regate_gateway.routes.extras import Extras
from regate_gateway.routes.field_hints import ELSEWHERE, IN_RESPONSES
from regate_gateway.routes.json_schemas import read_schema
from regate_gateway.routes.responses.include import INCLUDABLE, IncludeQuery
from regate_gateway.routes.responses.input_items import LONGEST, read_input_item, user_message
from regate_gateway.routes.responses.tools import read_tool_choice, read_tools
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.responses.request import Include, ResponseRequest
from regate_orchestrator.values import ConversationId, Json, JsonObject, ResponseId

EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_TIERS: Final = (
    "auto",
    "default",
    "flex",
    "scale",
    "priority",
    "fast",
    "ultrafast",
    "on_demand",
    "performance",
)
"""OpenAI's, and the last two Groq's."""
CACHE_RETENTIONS: Final = ("in_memory", "in-memory", "24h")
_NUMBERS: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}
_CONTEXT: Final = (
    "model",
    "input",
    "instructions",
    "previous_response_id",
    "conversation",
    "prompt",
    "tools",
    "tool_choice",
    "text",
    "reasoning",
)
_GENERATION: Final = (
    *(
        "temperature",
        "top_p",
        "presence_penalty",
        "frequency_penalty",
        "top_logprobs",
        "max_output_tokens",
        "max_tool_calls",
    ),
    *("parallel_tool_calls", "truncation", "context_management", "service_tier"),
)
_DELIVERY: Final = (
    "store",
    "stream",
    "stream_options",
    "background",
    "background_options",
    "include",
    "metadata",
)
_HINTS: Final = (
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "client_metadata",
)
_UNSUPPORTED: Final = ("moderation", "access_programs", "image")
_KNOWN: Final = frozenset({*_CONTEXT, *_GENERATION, *_DELIVERY, *_HINTS, *_UNSUPPORTED})


def read_warm_up(body: dict[str, Json]) -> bool:
    """Return whether the model is to be called, taking the word for it (`generate`, of WebSockets
    alone) out of the body.
    """
    fields = Fields(body)
    wanted = fields.boolean("generate", default=True)
    body.pop("generate", None)
    return wanted


def read_response_request(
    body: Mapping[str, Json], *, omit: Collection[str] = (), listed: Collection[str] = ()
) -> ResponseRequest:
    """Return the checked request. Raises `InvalidRequest` naming the field and what to change.

    `omit` are the types of tools that the operator wants left out rather than refused, `listed` the fields
    that some upstream is said to take beyond the known ones.
    A `prompt` must have been resolved before: its template is then in the other fields, and only its echo is
    left.
    """
    fields = Fields(body)
    fields.refuse_unsupported(*_UNSUPPORTED)
    extra = Extras(frozenset(listed).difference(ELSEWHERE)).of(fields, _KNOWN, hints=IN_RESPONSES)
    store, background = fields.boolean("store", default=True), fields.boolean("background", default=False)
    if background and not store:
        raise InvalidRequest(
            "'background' needs 'store': what runs on has to be kept somewhere.",
            param="background",
            code="invalid_value",
        )
    _delivery(fields)
    previous, conversation = fields.maybe_id("previous_response_id"), _conversation(fields)
    if previous is not None and conversation is not None:
        message = (
            "'previous_response_id' and 'conversation' cannot be used together: each says what came before."
        )
        raise InvalidRequest(message, param="conversation", code="mutually_exclusive_parameters")
    if conversation is not None and not store:
        raise InvalidRequest(
            "'conversation' needs 'store': the turn is kept in the conversation.",
            param="store",
            code="invalid_value",
        )
    tools = read_tools(fields, omit=omit)
    choice = read_tool_choice(fields, tools)
    sampling, echo = _sampling(fields)
    include = _include(fields)
    logprobs = include.logprobs or "top_logprobs" in echo
    if logprobs:
        sampling = {**sampling, "logprobs": True, "top_logprobs": echo.get("top_logprobs", 0)}
    if conversation is not None:
        echo["conversation"] = {"id": conversation}
    if fields.has("prompt"):
        echo["prompt"] = fields.object("prompt").values
    return ResponseRequest(
        model=fields.string("model", most=256),
        items=_input(fields),
        instructions=fields.maybe_string("instructions", most=LONGEST),
        previous_response_id=None if previous is None else ResponseId(previous),
        conversation=conversation,
        store=store,
        stream=fields.boolean("stream", default=False),
        background=background,
        client_tools=tools.client,
        file_search=tools.search,
        tools_echo=tools.echo,
        tool_choice=choice.sent,
        allowed=choice.allowed,
        parallel_tool_calls=fields.boolean("parallel_tool_calls", default=True),
        max_tool_calls=fields.maybe_integer("max_tool_calls", least=1, most=1_000),
        service_tier=read_service_tier(fields),
        max_output_tokens=fields.maybe_integer("max_output_tokens", least=16, most=10_000_000),
        truncation="auto"
        if fields.choice("truncation", ("auto", "disabled"), default="disabled") == "auto"
        else "disabled",
        compact_threshold=_compact_threshold(fields),
        summarize_reasoning=_summary_wanted(fields),
        forget_reasoning=_forgets(fields),
        include=Include(include.results, include.encrypted_reasoning, logprobs),
        sampling=sampling,
        extra=extra,
        echo={**echo, "tool_choice": choice.echo},
    )


def _delivery(fields: Fields) -> None:
    """Check what says how the answer is delivered; the routes read it again where they need it."""
    options = fields.maybe_object("stream_options")
    if options is not None:
        options.refuse_unknown({"include_obfuscation"})
        options.boolean("include_obfuscation", default=True)
    background = fields.maybe_object("background_options")
    if background is not None:
        background.refuse_unsupported("continuation_id")
        background.refuse_unknown({"completion_window", "continuation_id"})
        background.choice("completion_window", ("soonest",), default="soonest")


def _conversation(fields: Fields) -> ConversationId | None:
    value = fields.values.get("conversation")
    if value is None:
        return None
    if isinstance(value, str):
        return ConversationId(fields.id("conversation"))
    named = fields.object("conversation")
    named.refuse_unknown({"id"})
    return ConversationId(named.id("id"))


def _include(fields: Fields) -> Include:
    names = IncludeQuery.read({"include": fields.values.get("include")}).include
    return Include(*(name in names for name in INCLUDABLE[:3]))


def _sampling(fields: Fields) -> tuple[dict[str, Json], dict[str, Json]]:
    """Return what goes to the upstream in its own spelling, and what the Response repeats."""
    sampling: dict[str, Json] = {}
    echo: dict[str, Json] = {"metadata": fields.metadata()}
    for name, (least, most) in _NUMBERS.items():
        value = fields.maybe_number(name, least=least, most=most)
        if value is not None:
            sampling[name] = echo[name] = value
    if top := fields.maybe_integer("top_logprobs", least=0, most=20):
        echo["top_logprobs"] = top
    for name in ("user", "safety_identifier", "prompt_cache_key"):
        text = fields.maybe_string(name, most=512)
        if text is not None:
            echo[name] = text
    if fields.has("prompt_cache_retention"):
        echo["prompt_cache_retention"] = fields.choice(
            "prompt_cache_retention", CACHE_RETENTIONS, default=None
        )
    if (cache := read_cache_options(fields)) is not None:
        echo["prompt_cache_options"] = cache
    fields.maybe_object("client_metadata")
    echo["truncation"] = fields.choice("truncation", ("auto", "disabled"), default="disabled")
    _text(fields, sampling, echo)
    _reasoning(fields, sampling, echo)
    return sampling, echo


def read_service_tier(fields: Fields) -> str | None:
    """Return the tier of service that is asked for. What an upstream without tiers is asked for is
    answered in the default one.
    """
    return fields.choice("service_tier", _TIERS, default=None) if fields.has("service_tier") else None


def read_cache_options(fields: Fields) -> JsonObject | None:
    """Return `prompt_cache_options`, a hint about a cache that is the upstream's: only what could be
    asked of any is taken.
    """
    cache = fields.maybe_object("prompt_cache_options")
    if cache is None:
        return None
    cache.refuse_unsupported("comparison_response_id", "prewarm")
    cache.refuse_unknown({"mode", "ttl", "comparison_response_id", "prewarm"})
    return {
        "mode": cache.choice("mode", ("implicit",), default="implicit"),
        "ttl": cache.choice("ttl", ("30m", "12h"), default="30m"),
    }


def _text(fields: Fields, sampling: dict[str, Json], echo: dict[str, Json]) -> None:
    text = fields.maybe_object("text")
    if text is None:
        return
    text.refuse_unknown({"format", "verbosity"})
    verbosity = text.choice("verbosity", ("low", "medium", "high"), default="medium")
    if verbosity != "medium":
        sampling["verbosity"] = verbosity
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
                "description": wanted.maybe_string("description", most=LONGEST),
                "schema": read_schema(wanted, "schema"),
                "strict": wanted.boolean("strict", default=False),
            }
            schema: dict[str, Json] = {
                name: value for name, value in shown.items() if name != "type" and value is not None
            }
            sampling["response_format"] = {"type": kind, "json_schema": schema}
    echo["text"] = {"format": shown} if verbosity == "medium" else {"format": shown, "verbosity": verbosity}


def _reasoning(fields: Fields, sampling: dict[str, Json], echo: dict[str, Json]) -> None:
    reasoning = fields.maybe_object("reasoning")
    if reasoning is None:
        return
    reasoning.refuse_unknown({"effort", "summary", "generate_summary", "mode", "context"})
    reasoning.choice("mode", ("standard",), default="standard")
    reasoning.choice("context", ("auto", "current_turn", "all_turns"), default="auto")
    summary = _summary(reasoning)
    said = {name: reasoning.values[name] for name in ("mode", "context") if reasoning.has(name)}
    effort: Json = None
    if reasoning.has("effort"):
        effort = sampling["reasoning_effort"] = reasoning.choice("effort", EFFORTS, default=None)
    if effort is not None or summary is not None or said:
        echo["reasoning"] = {"effort": effort, "summary": summary, **said}


def _summary(reasoning: Fields) -> str | None:
    for name in ("summary", "generate_summary"):
        if reasoning.has(name):
            return reasoning.choice(name, ("auto", "concise", "detailed"), default=None)
    return None


def _summary_wanted(fields: Fields) -> bool:
    reasoning = fields.maybe_object("reasoning")
    return reasoning is not None and _summary(reasoning) is not None


def _forgets(fields: Fields) -> bool:
    reasoning = fields.maybe_object("reasoning")
    return reasoning is not None and reasoning.values.get("context") == "current_turn"


def _compact_threshold(fields: Fields) -> int | None:
    found: int | None = None
    for entry in fields.objects("context_management", most=8):
        entry.refuse_unknown({"type", "compact_threshold"})
        entry.choice("type", ("compaction",), default=None)
        threshold = entry.integer("compact_threshold", least=1_000, most=100_000_000, default=100_000)
        found = threshold if found is None else min(found, threshold)
    return found


def _input(fields: Fields) -> tuple[JsonObject, ...]:
    value = fields.values.get("input")
    if isinstance(value, str):
        return (user_message(value),)
    continues = any(fields.has(name) for name in ("previous_response_id", "conversation", "prompt"))
    if value is None and not continues:
        fields.required("input")
    items = tuple(read_input_item(item) for item in fields.objects("input", most=10_000))
    if not items and not continues:
        raise InvalidRequest("'input' must hold at least one item.", param="input")
    return items
