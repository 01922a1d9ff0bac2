"""Recognises an upstream saying that a request is longer than the model's context. There is no standard for
it: a few codes, much prose.

What is recognised only chooses our own words (`backend/failures.py`, `embeddings/upstream.py`); a wording
that is missing here leaves the answer a plain refusal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import orjson

_CODES: Final = frozenset(
    {
        "context_length_exceeded",
        "exceed_context_size_error",
        "model_max_prompt_tokens_exceeded",
        "prompt_too_long",
    }
)
"""OpenAI and most hosts, llama.cpp, Azure's and GitHub's models, LM Studio; in `code` or in `type`."""

_WORDS: Final = re.compile(
    r"maximum context length"  # OpenAI, vLLM, Mistral, OpenRouter
    r"|longer than the (?:model's|maximum) (?:context|model) length"  # SGLang, Together, vLLM
    # Llama.cpp, Ollama
    r"|exceeds? (?:the |this )?(?:model's )?(?:available |maximum |max |configured )?context "
    r"(?:length|window|size|limit)"
    r"|exceeds? maximum context (?:length|size)"
    r"|context (?:length|window|size) (?:has been |was )?exceed(?:ed|s)"  # llama.cpp while generating
    r"|greater than the context length"  # LM Studio
    r"|prompt is too long"  # Anthropic's and Ollama's compatible APIs
    r"|input token count.{0,40}exceeds the maximum"  # Gemini
    r"|reduce the length of the (?:messages|prompt|input)"  # OpenAI, Groq
    r"|maximum input length"  # OpenAI's embeddings
    r"|must have less than \d+ tokens"  # text-embeddings-inference
    # Llama.cpp's embeddings
    r"|input (?:\(\d+ tokens\) )?is too large to process|larger than the max context size"
    r"|(?:longer|greater|larger) than the max(?:imum)? (?:sequence|input|token)"
    r"|exceeds? (?:the |this )?(?:model's )?max(?:imum)? ?(?:allowed )?(?:sequence|input|token)s? "
    r"(?:length|size|limit|count)"
    r"|`inputs` tokens \+ `max_new_tokens` must be",  # text-generation-inference
    re.IGNORECASE,
)


_LIMIT: Final = re.compile(
    r"(?:context length (?:is|of)|input length is|have less than|batch size:|max(?:imum)? "
    r"(?:sequence|input|token)s? (?:length|limit) (?:is|of))"
    r" (\d{2,7})\b",
    re.IGNORECASE,
)


def says_too_long(answer: str | Mapping[str, object], *, prose: bool) -> bool:
    """Return whether an error answer, as text or as JSON read already, says so: by its code, or in
    words too where prose may be trusted.
    """
    document = _document(answer) if isinstance(answer, str) else answer
    if document is None:
        return prose and isinstance(answer, str) and _WORDS.search(answer) is not None
    return any(
        (key in ("code", "type") and value in _CODES)
        or (prose and key in ("message", "error", "detail") and _WORDS.search(value) is not None)
        for key, value in _told(document)
    )


def told_limit(answer: str) -> int | None:
    """Return how many tokens the model takes, where the answer says so in known words."""
    found = _LIMIT.search(answer)
    return None if found is None else int(found.group(1))


def _document(text: str) -> Mapping[str, object] | None:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def _told(document: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield what the answer says of itself: its texts and those of its `error`, and nothing deeper,
    where a server may quote the request.
    """
    inner = document.get("error")
    for level in (document, inner if isinstance(inner, dict) else {}):
        for key, value in level.items():
            if isinstance(value, str):
                yield key, value
