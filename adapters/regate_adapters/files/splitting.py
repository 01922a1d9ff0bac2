"""Text in chunks of so many tokens, cut where the text itself pauses. Tokens are counted offline, in
`cl100k_base`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from regate_adapters.files.sections import Section, has_pages, pages, sections
from regate_adapters.files.tables import Tables

# The splitter names an encoding by a model that uses it; this one loads three times faster than the newer
_TOKENS_OF: Final = "gpt-4"
_MARKDOWN: Final = frozenset({".md", ".markdown"})
_UNBROKEN: Final = re.compile(r"([A-Za-z0-9+/=_%-]{1000})(?=[A-Za-z0-9+/=_%-])")
_BETWEEN: Final = " > "


def split(text: str, *, filename: str, max_tokens: int, overlap_tokens: int) -> list[str]:
    """Return the text in chunks of at most `max_tokens` tokens, in order; neighbours share about
    `overlap_tokens`, which must be fewer. A chunk that begins within a table has the table's first row first.
    """
    if len(text.encode()) <= max_tokens:  # a token is a byte at least
        return [text] if text.strip() else []
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

    kind = MarkdownSplitter if _is_markdown(filename) else TextSplitter
    splitter = kind.from_tiktoken_model(_TOKENS_OF, max_tokens, overlap=min(overlap_tokens, max_tokens - 1))
    # A run without any break, such as an image in base64, would take time with the square of its length.
    text = _UNBROKEN.sub("\\1\n", text)
    tables = Tables(text, filename=filename)
    return [
        part
        for place, chunk in splitter.chunk_indices(text)
        if chunk.strip()
        for part in _headed(tables.head_at(place), chunk, max_tokens)
    ]


def _headed(head: str, chunk: str, max_tokens: int) -> Iterator[str]:
    """Yield the rows of a table with its first row before them: all at once, or in two or more parts where
    that is too long. One that takes more than a third is left out.
    """
    size = len(head.encode())
    if not head or not _is_one(head, max_tokens // 3):
        yield chunk
    elif _is_one(f"{head}\n{chunk}", max_tokens):
        yield f"{head}\n{chunk}"
    else:
        left = max_tokens - min(size + 1, max_tokens // 3 + 1)
        for part in split(chunk, filename="", max_tokens=left, overlap_tokens=0):
            yield f"{head}\n{part}"


def split_by(kind: str, text: str, *, filename: str, max_tokens: int) -> list[str] | None:
    """Return the marked text in chunks that are one section each (`heading`), or one page (`page`), or parts
    of one that is longer than `max_tokens`. None for a text without any.
    """
    if kind == "page":
        if not has_pages(text):
            return None
        return [
            part
            for page in pages(text)
            for part in split(page, filename=filename, max_tokens=max_tokens, overlap_tokens=0)
        ]
    found = sections(text, markdown=_is_markdown(filename))
    if not any(one.path for one in found):
        return None
    return list(_by_heading(found, filename, max_tokens))


def _by_heading(found: list[Section], filename: str, max_tokens: int) -> Iterator[str]:
    """Yield the chunks of the sections, each with its path before it.

    A section that has no text of its own is in the paths of those below it, so no word is lost.
    """
    paths = [_fitting(one.path, max_tokens // 2) for one in found]
    for place, (one, path) in enumerate(zip(found, paths, strict=True)):
        following = paths[place + 1] if place + 1 < len(paths) else ()
        if one.text or following[: len(one.path)] != one.path:
            yield from _with_path(path, _unshown(one, path) + one.text, filename, max_tokens)


def _unshown(section: Section, path: tuple[str, ...]) -> str:
    """Return the section's own heading where it is too long for a path."""
    return f"{section.path[-1]}\n\n" if section.path and not path else ""


def _fitting(path: tuple[str, ...], tokens: int) -> tuple[str, ...]:
    """Return as many of the headings, counted from the last, as have so many tokens."""
    while path and not _is_one(_BETWEEN.join(path), tokens):
        path = path[1:]
    return path


def _with_path(path: tuple[str, ...], text: str, filename: str, max_tokens: int) -> Iterator[str]:
    head = _BETWEEN.join(path)
    whole = f"{head}\n\n{text}".strip()
    if _is_one(whole, max_tokens):
        yield whole
        return
    left = max_tokens - min(len(head.encode()) + 2, max_tokens // 2)
    for part in split(text, filename=filename, max_tokens=left, overlap_tokens=0):
        yield f"{head}\n\n{part}".strip()


def _is_one(text: str, tokens: int) -> bool:
    return len(split(text, filename="", max_tokens=tokens, overlap_tokens=0)) <= 1


def _is_markdown(filename: str) -> bool:
    return Path(filename).suffix.lower() in _MARKDOWN
