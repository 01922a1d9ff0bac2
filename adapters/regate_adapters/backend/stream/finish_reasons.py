"""How a model turn ended, in the words of backends. Only words that are known to be a good end are
one: any other says that the answer is broken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from regate_orchestrator.model_events import FinishReason

_KNOWN: Final[Mapping[str, FinishReason]] = {
    **dict.fromkeys(
        ("stop", "stopped", "eos", "eostoken", "eosfound", "stoptoken", "stopsequence", "stopstringfound"),
        "stop",
    ),
    **dict.fromkeys(("endturn", "endoftext", "complete", "completed", "finished", "done", "normal"), "stop"),
    **dict.fromkeys(("toolcalls", "toolcall", "tooluse", "functioncall", "functioncalls"), "tool_calls"),
    **dict.fromkeys(
        ("length", "maxtokens", "maxlength", "maxnewtokens", "maxoutputtokens", "maxcompletiontokens"),
        "length",
    ),
    **dict.fromkeys(
        ("tokenlimit", "maxpredictedtokensreached", "modellength", "contextlength", "contextlengthreached"),
        "length",
    ),
    **dict.fromkeys(
        ("modelcontextwindowexceeded", "contextwindowexceeded", "contextlengthexceeded"), "length"
    ),
    **dict.fromkeys(("safety", "sensitive", "refusal", "guardrailintervened"), "content_filter"),
    **dict.fromkeys(
        ("recitation", "blocklist", "prohibitedcontent", "spii", "imagesafety"), "content_filter"
    ),
}
"""The words of OpenAI, vLLM, SGLang, llama.cpp, LM Studio, TGI, Together, Mistral, Anthropic, Bedrock,
Gemini, Cohere and z.ai, by their letters.
"""

_NOT_YET: Final = frozenset({"", "null", "none", "notfinished", "inprogress", "finishreasonunspecified"})
"""What some say in each chunk before the last."""
_GRAVITY: Final[tuple[FinishReason | None, ...]] = ("stop", "tool_calls", "length", "content_filter", None)


def says_an_end(word: str) -> bool:
    """Return whether the word says that the turn is over, well or not."""
    return _letters(word) not in _NOT_YET


def meaning_of(word: str) -> FinishReason | None:
    """Return the end that the word stands for; None for a broken one. How it is written does not
    matter: `MAX_TOKENS`, `max-tokens`.
    """
    letters = _letters(word)
    return "content_filter" if letters.startswith("contentfilter") else _KNOWN.get(letters)


def _letters(word: str) -> str:
    return word.lower() if word.isascii() and word.isalpha() else re.sub(r"[\W\d_]", "", word.lower())


def graver(one: FinishReason | None, other: FinishReason | None) -> FinishReason | None:
    """Return which of two ends that were told of one turn holds: an answer that was cut is not whole
    for being said to have stopped.
    """
    return max(one, other, key=_GRAVITY.index)
