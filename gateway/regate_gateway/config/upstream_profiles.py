"""What each kind of backend is known to take: the settings of an upstream that names its `kind`,
unless it sets them itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

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
"""Fields that only sample are passed on; none that sets a template, a grammar or a cost, which an
operator must list by name.
"""
