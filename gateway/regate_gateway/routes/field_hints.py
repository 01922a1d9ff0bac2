"""What callers are told of fields that mean something elsewhere: in another API of OpenAI's, or to one
kind of backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from regate_gateway.http.misfits import Hint

EXTRA_FIELDS: Final = (
    "A field of the backend's own is passed on where 'upstreams[].kind' or 'upstreams[].extra_fields' says "
    "that it takes it."
)
"""For whoever sends what one kind of backend takes: what it is that has to be set."""

_BACKENDS_OWN: Final = (
    *(
        "top_k",
        "top_a",
        "min_p",
        "typical_p",
        "tfs_z",
        "repetition_penalty",
        "repeat_penalty",
        "repeat_last_n",
        "length_penalty",
    ),
    *(
        "min_tokens",
        "num_predict",
        "num_ctx",
        "n_predict",
        "stop_token_ids",
        "ignore_eos",
        "use_beam_search",
        "bad_words",
        "samplers",
    ),
    *(
        "options",
        "format",
        "grammar",
        "regex",
        "json_schema",
        "think",
        "thinking",
        "enable_thinking",
        "chat_template",
        "documents",
        "priority",
    ),
)


def _moved(api: str, to: str) -> Hint:
    return Hint(f"In the {api} API, this parameter has moved to '{to}'. Try again with the new parameter.")


ELSEWHERE: Final[Mapping[str, Hint]] = {
    **{
        name: _moved("Responses", to)
        for name, to in {
            "messages": "input",
            "max_tokens": "max_output_tokens",
            "max_completion_tokens": "max_output_tokens",
            "response_format": "text.format",
            "verbosity": "text.verbosity",
            "reasoning_effort": "reasoning.effort",
            "functions": "tools",
            "function_call": "tool_choice",
        }.items()
    },
    "logprobs": Hint(
        "In the Responses API, ask for log probabilities with 'include': "
        "['message.output_text.logprobs'] and 'top_logprobs'."
    ),
    "system": Hint("In the Responses API, send it as 'instructions'."),
    **{
        name: Hint("The Responses API has no such parameter; use '/v1/chat/completions' for it.")
        for name in (
            "n",
            "stop",
            "seed",
            "logit_bias",
            "prediction",
            "modalities",
            "audio",
            "web_search_options",
        )
    },
}
"""What `/v1/responses` says of fields of chat completions, none of which it passes on as it is."""

_OWN: Final = {name: Hint(EXTRA_FIELDS, "unknown_parameter") for name in _BACKENDS_OWN}

IN_RESPONSES: Final[Mapping[str, Hint]] = {**ELSEWHERE, **_OWN}

IN_CHAT: Final[Mapping[str, Hint]] = {
    **{
        name: _moved("Chat Completions", to)
        for name, to in {
            "input": "messages",
            "prompt": "messages",
            "instructions": "messages",
            "system": "messages",
            "max_output_tokens": "max_completion_tokens",
            "text": "response_format",
            "reasoning": "reasoning_effort",
        }.items()
    },
    **{
        name: Hint("In the Chat Completions API nothing is stored: send what came before in 'messages'.")
        for name in ("previous_response_id", "conversation")
    },
    **{
        name: Hint(f"It would change the answer, and is not supported by this gateway. {EXTRA_FIELDS}")
        for name in ("audio", "moderation", "prediction", "web_search_options")
    },
    **_OWN,
}
"""What `/v1/chat/completions` says of fields of responses, and of what it cannot honour."""

IN_COMPLETIONS: Final[Mapping[str, Hint]] = {
    **{
        name: _moved("Completions", to)
        for name, to in {
            "messages": "prompt",
            "input": "prompt",
            "max_completion_tokens": "max_tokens",
        }.items()
    },
    **_OWN,
}
IN_EMBEDDINGS: Final[Mapping[str, Hint]] = {
    **{
        name: _moved("Embeddings", to)
        for name, to in {"messages": "input", "prompt": "input", "texts": "input"}.items()
    },
    **_OWN,
}
