"""The sections of a text: what stands below each of its headings, or on each of its pages.

Which lines are headings the readers say with marks (`text/marks.py`); in Markdown the text itself says it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from regate_adapters.files.text.marks import HEADING_END, LEVELS, MARKS, PAGE, heading_mark

_LONGEST: Final = 200
"""Characters of a heading. What is longer is text that somebody wrote large."""
_HEADING: Final = re.compile(f"([{LEVELS}])([^{MARKS}]{{0,{2 * _LONGEST}}}){HEADING_END}")
_MARKS: Final = re.compile(f"[{MARKS}]")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")
_NUMBERED: Final = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE: Final = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_NO_TITLE: Final = re.compile(r" {0,3}(?:[-+*>|#]|\d+[.)]|`{3}|~{3})|\s*$| {4}|\t")
"""How lines begin that an underline makes no heading of: items, quotes, tables, code."""


@dataclass(frozen=True, slots=True)
class Section:
    """The text below one heading. `path` are the headings above it with its own last; empty before the first
    heading.
    """

    path: tuple[str, ...]
    text: str


def pages(text: str) -> list[str]:
    """Return the text of each page that has some. Without pages, it is one."""
    return [bare for page in text.split(PAGE) if (bare := without_marks(page))]


def has_pages(text: str) -> bool:
    """Return whether the text is of a file that has pages."""
    return PAGE in text


def sections(text: str, *, markdown: bool) -> list[Section]:
    """Return the sections in their order, also those with no text of their own. Without headings, there is
    one that has no path.
    """
    if markdown:
        text = _marked(without_marks(text))
    found: list[Section] = []
    open_: list[tuple[int, str]] = []
    begin = 0
    for heading in _HEADING.finditer(text):
        title = " ".join(heading[2].split())
        if not title or len(title) > _LONGEST:
            continue
        _add(found, open_, text[begin : heading.start()])
        level = LEVELS.index(heading[1])
        open_ = [*((above, name) for above, name in open_ if above < level), (level, title)]
        begin = heading.end()
    _add(found, open_, text[begin:])
    return found


def without_marks(text: str) -> str:
    """Return the text as it is without marks."""
    return re.sub(r"\n{3,}", "\n\n", _MARKS.sub("", text)).strip()


def _add(found: list[Section], open_: list[tuple[int, str]], text: str) -> None:
    bare = without_marks(text)
    if bare or open_:
        found.append(Section(tuple(name for _, name in open_), bare))


def _marked(markdown: str) -> str:
    """Return Markdown with its headings marked; what stands in code, or before all as metadata, is none."""
    return "\n".join(_marked_lines(markdown.split("\n")))


def _marked_lines(lines: list[str]) -> Iterator[str]:
    fence = ""
    place = _after_metadata(lines)
    yield from lines[:place]
    while place < len(lines):
        line = lines[place]
        place += 1
        opened = _FENCE.match(line)
        if fence:
            if opened and opened[1].startswith(fence) and not line.strip(" `~"):
                fence = ""
        elif opened:
            fence = opened[1]
        elif numbered := _NUMBERED.match(line):
            yield heading_mark(len(numbered[1])) + (numbered[2] or "") + HEADING_END
            continue
        elif place < len(lines) and not _NO_TITLE.match(line) and (under := _UNDERLINE.match(lines[place])):
            yield heading_mark(1 if under[1][0] == "=" else 2) + line + HEADING_END
            place += 1
            continue
        yield line


def _after_metadata(lines: list[str]) -> int:
    if lines[0].rstrip() != "---":
        return 0
    ends = (place for place, line in enumerate(lines) if place and line.rstrip() in ("---", "..."))
    return next(ends, -1) + 1
