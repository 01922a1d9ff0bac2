"""A request that is passed on to an upstream, checked before anything is decided or counted.

The fields that the proxied routes have in common are read here, the rest of their bodies in `bodies.py`. What
depends on the upstream is left to `sent`, once that is chosen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, get_args

from regate_gateway.http.misfits import Hint
from regate_gateway.routes.chat.fields import Fields
from regate_gateway.routes.chat.messages import Messages
from regate_gateway.routes.chat.tools import ChatTools
from regate_gateway.routes.extras import Extras
from regate_gateway.routes.responses.models import CacheOptions, CacheRetention, ServiceTier
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.values import Json, JsonObject

HARMLESS: Final = frozenset(
    {
        *(
            "metadata",
            "store",
            "service_tier",
            "safety_identifier",
            "prompt_cache_key",
            "prompt_cache_retention",
            "prompt_cache_options",
        ),
        "modalities",
    }
)
"""Fields that are taken and not sent on, unless the operator lists them for the upstream: they ask for
nothing that is not done anyway.
"""

SAMPLING: Final = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "stop",
    "n",
    "logit_bias",
    "user",
)
_CHECKED: Final = frozenset(SAMPLING)
_NUMBERS: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
MAX_CHOICES: Final = 16
_MAX_STOPS: Final = 4
_MAX_BIASES: Final = 1_024
_MAX_STOP: Final = 10_000
MAX_OUTPUT_TOKENS: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Forwarded:
    """The checked request. `body` is what any upstream is sent of it, `harmless` what one is sent that is
    said to take it.

    Messages and tools are sent beside that, when it is decided what of them may be (`gate.py`).
    """

    path: str
    model: str
    stream: bool
    body: JsonObject
    harmless: JsonObject
    service_tier: str | None
    extras: Extras
    messages: Messages = field(default_factory=Messages)
    tools: ChatTools = field(default_factory=ChatTools)

    @property
    def writes(self) -> bool:
        """Whether the answer is text of a model's."""
        return self.path != "/embeddings"

    @property
    def tool_types(self) -> tuple[str, ...]:
        """Return the types of the tools, as policies are told them. A search that only some backends
        know is one too.
        """
        return (*self.tools.types, "web_search") if "web_search_options" in self.body else self.tools.types

    @property
    def asked(self) -> JsonObject:
        """Return everything that is asked for, whatever of it will be sent."""
        return {
            **self.body,
            **({"messages": self.messages.sent} if self.messages.sent else {}),
            **self.tools.members(()),
        }


def read_forwarded(
    fields: Fields, path: str, known: frozenset[str], extras: Extras, *, hints: Mapping[str, Hint]
) -> Forwarded:
    """Return the request with the fields checked that the routes have in common. The caller must check
    the others that are known to it.
    """
    others = (
        {}
        if fields.values.keys() <= known
        else extras.of(fields.values, known | HARMLESS, hints=hints, path=fields.path)
    )
    if not _CHECKED.isdisjoint(fields.values):
        _sampling(fields)
    sent = {name: value for name, value in fields.values.items() if name in known and value is not None}
    stream = fields.boolean("stream", default=False)
    options = _stream_options(fields, extras)
    if options is not None and stream:
        sent["stream_options"] = options
    else:
        sent.pop("stream_options", None)
    return Forwarded(
        path=path,
        model=fields.string("model", most=256),
        stream=stream,
        body={**sent, **others},
        harmless=_harmless(fields, extras.listed),
        service_tier=fields.choice("service_tier", get_args(ServiceTier), default=None)
        if fields.has("service_tier")
        else None,
        extras=extras,
    )


def sent(request: Forwarded, *, takes: Collection[str], has_tiers: bool) -> dict[str, Json]:
    """Return what an upstream is sent that takes these fields beyond the known ones. Raises
    `InvalidRequest` for one that it does not.
    """
    request.extras.require(takes)
    _require_harmless(request.harmless, takes)
    body = {**request.body, **{name: value for name, value in request.harmless.items() if name in takes}}
    return {**body, "service_tier": request.service_tier} if request.service_tier and has_tiers else body


def _sampling(fields: Fields) -> None:
    for name, (least, most) in _NUMBERS.items():
        fields.maybe_number(name, least=least, most=most)
    fields.maybe_integer("n", least=1, most=MAX_CHOICES)
    fields.maybe_integer("seed", least=-(2**63), most=2**63 - 1)
    fields.maybe_string("user", most=512)
    if isinstance(fields.values.get("stop"), str):
        fields.maybe_string("stop", most=_MAX_STOP)
    else:
        fields.strings("stop", most=_MAX_STOPS, longest=_MAX_STOP)
    _logit_bias(fields)


def _logit_bias(fields: Fields) -> None:
    bias = fields.maybe_object("logit_bias")
    if bias is None:
        return
    if len(bias.values) > _MAX_BIASES:
        message = (
            f"Invalid 'logit_bias': too many properties. Expected at most {_MAX_BIASES}, but got "
            f"{len(bias.values)}."
        )
        raise InvalidRequest(message, param="logit_bias", code="object_above_max_properties")
    for token in bias.values:
        if not (token.isascii() and token.isdigit() and len(token) <= 10):
            message = f"Invalid key in 'logit_bias': {token[:20]!r}. Keys are numbers of tokens."
            raise InvalidRequest(message, param="logit_bias", code="invalid_value")
        bias.required(token)
        bias.maybe_number(token, least=-100, most=100)


def _stream_options(fields: Fields, extras: Extras) -> JsonObject | None:
    options = fields.maybe_object("stream_options")
    if options is None:
        return None
    others = extras.of(options.values, {"include_usage", "include_obfuscation"}, path=options.path)
    known = {
        name: options.boolean(name, default=False)
        for name in ("include_usage", "include_obfuscation")
        if options.has(name)
    }
    return {**known, **others}


def _harmless(fields: Fields, listed: Collection[str]) -> JsonObject:
    if HARMLESS.isdisjoint(fields.values):
        return {}
    fields.metadata()
    for name in ("safety_identifier", "prompt_cache_key"):
        fields.maybe_string(name, most=512)
    if fields.has("prompt_cache_retention"):
        fields.choice("prompt_cache_retention", get_args(CacheRetention), default=None)
    if fields.has("prompt_cache_options"):
        CacheOptions.read(fields.values["prompt_cache_options"], path="prompt_cache_options")
    fields.boolean("store", default=False)
    fields.strings("modalities", most=8, longest=64)
    found = {name: value for name, value in fields.values.items() if name in HARMLESS and value is not None}
    _require_harmless(found, listed)
    return found


def _require_harmless(found: JsonObject, takes: Collection[str]) -> None:
    """Raise `InvalidRequest` where one of the fields does ask for something, which only whom it is
    passed on to could give.
    """
    if found.get("store") and "store" not in takes:
        message = "'store' is not supported here: an answer that passes through is not kept."
        raise InvalidRequest(message, param="store", code="unsupported_parameter")
    if found.get("modalities") not in (None, [], ["text"]) and "modalities" not in takes:
        message = "'modalities' can only be ['text'] here: answers in other forms are not supported."
        raise InvalidRequest(message, param="modalities", code="unsupported_parameter")
