"""The settings of upstreams: each by itself, and what they may say together. A part of `settings.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final, Literal, Self, TypeAlias

from pydantic import Field, field_validator, model_validator

from regate_adapters.settings_types import EnvironmentName, ModelName, Name, Seconds, Section, plain_address
from regate_orchestrator.upstream_capabilities import (
    OutputLimit,
    ReasoningField,
    SeedField,
    SystemMessages,
    UpstreamCapabilities,
)

_SAME_REQUEST: Final = ("reasoning_field", "image_urls", "extra_fields", "service_tiers")
"""What a request is made for, before it is known which of two upstreams is sent it; each is sent it in
its own words.
"""


UpstreamKind: TypeAlias = Literal[
    "generic", "vllm", "sglang", "llamacpp", "ollama", "openai", "azure", "mistral", "together", "litellm"
]

PROFILES: Final[Mapping[str, Mapping[str, Any]]] = {
    "generic": {},
    "vllm": {
        "reasoning_field": "reasoning",
        "extra_fields": ("top_k", "min_p", "repetition_penalty", "min_tokens", "stop_token_ids"),
    },
    "sglang": {
        "reasoning_field": "reasoning_content",
        "extra_fields": ("top_k", "min_p", "repetition_penalty", "min_tokens", "stop_token_ids"),
    },
    "llamacpp": {
        "reasoning_field": "reasoning_content",
        "extra_fields": ("top_k", "min_p", "typical_p", "repeat_penalty", "repeat_last_n"),
    },
    "ollama": {"reasoning_field": "reasoning"},
    "openai": {
        "output_limit": "max_completion_tokens",
        "system_messages": "anywhere",
        "image_urls": True,
        "service_tiers": True,
    },
    "azure": {"output_limit": "max_completion_tokens", "system_messages": "anywhere", "image_urls": True},
    "mistral": {
        "stream_usage": False,
        "seed_field": "random_seed",
        "image_urls": True,
        "extra_fields": ("safe_prompt", "random_seed"),
    },
    "together": {"image_urls": True, "extra_fields": ("top_k", "min_p", "repetition_penalty")},
    "litellm": {},
}
"""What each kind of backend is known to take: the settings of an upstream that names its `kind`, unless it
sets them itself.

Fields that only sample are passed on; none that sets a template, a grammar or a cost, which an
operator must list by name.
"""


class Upstream(Section):
    """A backend that speaks the OpenAI API."""

    name: Name = Field(description="Name of the upstream, unique; used in records and metrics.")
    kind: UpstreamKind = Field(
        default="generic",
        description=(
            "What it is: the settings from `output_limit` on that are not set are then as that kind takes "
            "them."
        ),
    )
    base_url: str = Field(
        description=(
            "Address of its API, up to and including `/v1`; http or https, without user name or password."
        )
    )
    api_key_env: EnvironmentName | None = Field(
        default=None, description="Environment variable that holds the key sent to it; none is sent without."
    )
    models: tuple[str, ...] | None = Field(
        default=None, description="Models it serves. Absent: those it lists itself are discovered."
    )
    aliases: dict[ModelName, ModelName] = Field(
        default_factory=dict,
        description=(
            "Names that clients use for models of it, each with its own name. A discovered model is then "
            "served by its aliases only."
        ),
        json_schema_extra={"default_text": "none"},
    )
    by_policy: bool = Field(
        default=False,
        description=(
            "Ask it only for what `regate.route.backend` sends to it. Its models may then be those of "
            "others too."
        ),
    )
    fallback_for: tuple[Name, ...] = Field(
        default=(),
        description=(
            "Upstreams, configured before it, for which it stands in while they cannot be reached, with "
            "the models that both serve."
        ),
    )
    timeout_s: Seconds = Field(default=300, description="Longest wait for its next bytes.")
    show_errors: bool = Field(
        default=False,
        description=(
            "Show callers its own words about a request that it refuses, without addresses and what may be "
            "a secret."
        ),
    )
    output_limit: OutputLimit = Field(
        default="max_tokens", description="Field in which it takes the most tokens that it may write."
    )
    system_messages: SystemMessages = Field(
        default="leading",
        description=(
            "What system and developer messages say goes into one, at the beginning, or they stay "
            "`anywhere` they are."
        ),
    )
    stream_usage: bool = Field(
        default=True, description="Ask it for the usage of streamed answers (`stream_options`)."
    )
    seed_field: SeedField = Field(
        default="seed", description="Field in which it takes the `seed` of a request."
    )
    reasoning_field: ReasoningField = Field(
        default="none",
        description=(
            "Field of assistant messages in which reasoning of earlier turns is sent back to it; `none` "
            "sends it nothing of them."
        ),
    )
    image_urls: bool = Field(
        default=False,
        description=(
            "Pass http and https addresses of images on to it. It then fetches whatever callers name, from "
            "where it stands in your network."
        ),
    )
    context_window: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Tokens that a request and its answer may have together. Absent: only the upstream knows."
        ),
    )
    service_tiers: bool = Field(
        default=False,
        description=(
            "Tell it which `service_tier` a request asks for. Else every answer is of the tier `default`."
        ),
    )
    extra_fields: tuple[str, ...] = Field(
        default=(), description="Request fields beyond the known ones that are passed on to it."
    )

    @property
    def named_models(self) -> tuple[str, ...]:
        """The models by the names that the configuration gives them; not those that are discovered."""
        return (*(self.models or ()), *self.aliases)

    @property
    def capabilities(self) -> UpstreamCapabilities:
        """What the upstream takes, by its kind and its own settings."""
        own = {trait.name: getattr(self, trait.name) for trait in fields(UpstreamCapabilities)}
        return UpstreamCapabilities(**{**own, "extra_fields": frozenset(self.extra_fields)})

    @model_validator(mode="before")
    @classmethod
    def _as_its_kind(cls, given: Any) -> Any:
        kind = given.get("kind") if isinstance(given, dict) else None
        return {**PROFILES[kind], **given} if isinstance(kind, str) and kind in PROFILES else given

    @model_validator(mode="after")
    def _one_meaning_each(self) -> Self:
        twice = sorted({name for name in self.named_models if self.named_models.count(name) > 1})
        if twice:
            raise ValueError(f"the model {twice[0]!r} is named twice among models and aliases")
        if self.by_policy and self.fallback_for:
            raise ValueError(
                "by_policy and fallback_for exclude each other: what policy alone may choose stands in "
                "for nobody"
            )
        return self

    @field_validator("base_url")
    @classmethod
    def _plain_base_url(cls, value: str) -> str:
        return plain_address(value, instead="api_key_env")


def require_plain_routes(upstreams: tuple[Upstream, ...]) -> None:
    """Raise `ValueError` unless each upstream has a name of its own and it is clear from the
    configuration who serves each model it names.
    """
    before: dict[str, Upstream] = {}
    owners: dict[str, str] = {}
    for upstream in upstreams:
        place = f"upstreams: {upstream.name!r}"
        if upstream.name in before:
            raise ValueError(f"upstreams: the name {upstream.name!r} is used twice")
        for name in upstream.fallback_for:
            first = before.get(name)
            if first is None or first.by_policy:
                raise ValueError(
                    f"{place} is fallback_for {name!r}, which is no upstream before it that every "
                    "request may be sent to"
                )
            for setting in _SAME_REQUEST:
                if getattr(first, setting) != getattr(upstream, setting):
                    raise ValueError(
                        f"{place} is fallback_for {name!r} with another {setting}: it could not be "
                        "sent the same request"
                    )
        if not upstream.by_policy:
            for model in upstream.named_models:
                owner = owners.setdefault(model, upstream.name)
                if owner != upstream.name and owner not in upstream.fallback_for:
                    raise ValueError(
                        f"upstreams: the model {model!r} is used twice, by {owner!r} and {upstream.name!r}"
                    )
        before[upstream.name] = upstream
