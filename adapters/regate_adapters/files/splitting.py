"""Text in chunks of so many tokens, cut where the text itself pauses. Tokens are counted offline, in
`cl100k_base`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

# The splitter names an encoding by a model that uses it; this one loads three times faster than the newer
_TOKENS_OF: Final = "gpt-4"
_MARKDOWN: Final = frozenset({".md", ".markdown"})
_UNBROKEN: Final = re.compile(r"([A-Za-z0-9+/=_%-]{1000})(?=[A-Za-z0-9+/=_%-])")


def split(text: str, *, filename: str, max_tokens: int, overlap_tokens: int) -> list[str]:
    """Return the text in chunks of at most `max_tokens` tokens, in order; neighbours share about
    `overlap_tokens`, which must be fewer.
    """
    if len(text.encode()) <= max_tokens:  # a token is a byte at least
        return [text] if text.strip() else []
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

    kind = MarkdownSplitter if Path(filename).suffix.lower() in _MARKDOWN else TextSplitter
    splitter = kind.from_tiktoken_model(_TOKENS_OF, max_tokens, overlap=min(overlap_tokens, max_tokens - 1))
    # A run without any break, such as an image in base64, would take time with the square of its length.
    return [chunk for chunk in splitter.chunks(_UNBROKEN.sub("\\1\n", text)) if chunk.strip()]
