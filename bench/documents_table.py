"""What is read of the files of a folder, beside what a reader could read of them: a table by kind of
file. A part of `bench.documents`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.documents_reference import ENDINGS, Words, reference, words
from regate_orchestrator.errors import ExtractionUnavailable
from regate_orchestrator.ports import UnreadableFile

Read = Callable[[Path], Awaitable[str]]

_WHOLE: Final = 0.98
_WHOLE_PDF: Final = 0.9
"""PDFium sets words apart by their places, so that its own words differ from run to run of text."""
_LONG_ENOUGH: Final = 4
_MAX_SHOWN: Final = 40
_COLUMNS: Final = (
    "files",
    "whole",
    "partly",
    "refused",
    "though with text",
    "empty",
    "gibberish",
    "no reference",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one file; `share` is that of the reference's words, where there is one."""

    column: str
    share: float | None = None
    why: str = ""


async def print_table(read: Read, folder: Path) -> None:
    """Read all files below the folder that have a reference, and print the table, what was lost and
    why files were refused.
    """
    table: dict[str, Counter[str]] = defaultdict(Counter)
    shares: dict[str, list[float]] = defaultdict(list)
    notable: list[tuple[str, float, str]] = []
    reasons: Counter[tuple[str, str]] = Counter()
    for path in sorted(one for one in folder.rglob("*") if one.is_file() and one.suffix.lower() in ENDINGS):
        kind = path.suffix.lower()
        outcome = await _outcome(read, path)
        table[kind].update(("files", outcome.column))
        if outcome.column in ("partly", "gibberish", "though with text"):
            notable.append((outcome.column, outcome.share or 0, f"{path.relative_to(folder)} {outcome.why}"))
        if outcome.column == "partly" and outcome.share is not None:
            shares[kind].append(outcome.share)
        if outcome.column in ("refused", "though with text"):
            reasons[kind, outcome.why] += 1
    print(f"{'kind':<8}" + "".join(f"{name:>{max(len(name), 6) + 2}}" for name in _COLUMNS))
    for kind, counts in sorted(table.items()):
        partly = (
            f"  partly: {', '.join(f'{share:.0%}' for share in sorted(shares[kind])[:_MAX_SHOWN])}"
            if shares[kind]
            else ""
        )
        print(
            f"{kind:<8}" + "".join(f"{counts[name]:>{max(len(name), 6) + 2}}" for name in _COLUMNS) + partly
        )
    for (kind, why), count in sorted(reasons.items()):
        print(f"  refused {kind:<6} {count:>4}  {why}")
    for column, share, name in sorted(notable):
        print(f"  {column:<17}{share:>4.0%} {name}")


async def _outcome(read: Read, path: Path) -> Outcome:
    expected = reference(path)
    try:
        text = await read(path)
    except UnreadableFile as refusal:
        if "holds no text" in refusal.message and not expected:
            return Outcome("empty")
        return Outcome("though with text" if expected else "refused", why=refusal.message)
    except ExtractionUnavailable:
        return Outcome("refused", why="not read in time")
    if is_garbled(text):
        return Outcome("gibberish", why=repr(text[:40]))
    if expected is None:
        return Outcome("no reference")
    lost = _lost(expected, text)
    share = 1 - len(lost) / max(len(expected), 1)
    whole = share >= (_WHOLE_PDF if path.suffix.lower() == ".pdf" else _WHOLE)
    return Outcome("whole" if whole else "partly", share, " ".join(sorted(lost)[:8]))


def _lost(expected: Words, text: str) -> list[str]:
    """Return the words that are not in the text, also not where it sets words apart in other places."""
    found = words(text)
    run = "".join(unicodedata.normalize("NFKC", text).casefold().split())
    return [word for word in expected - found if len(word) < _LONG_ENOUGH or word not in run]


def is_garbled(text: str) -> bool:
    """Return whether nobody could read the text: characters that mean nothing, letters of many
    scripts, or words that cannot be said.
    """
    written = re.sub(r"\s", "", text)
    nothing = sum(unicodedata.category(one) in ("Cc", "Cn", "Co", "Cs") or one == "\ufffd" for one in written)
    letters = [one for one in written if one.isalpha()]
    scripts = Counter(unicodedata.name(one, "?").split()[0] for one in letters)
    many = [
        name
        for name, count in scripts.items()
        if count > 0.03 * len(letters) and name not in ("CJK", "HIRAGANA", "KATAKANA")
    ]
    latin = [word for word in re.findall(r"[A-Za-z]{4,}", text) if len(set(word.casefold())) > 2]
    unsaid = [word for word in latin if not re.search("[aeiouy]", word, re.IGNORECASE)]
    phonetic = sum("\u0180" <= one <= "\u02af" for one in letters)
    return (
        nothing > 0.05 * len(written)
        or (len(letters) > 20 and len(many) > 3)
        or phonetic > 0.2 * max(len(letters), 1)
        or (len(unsaid) > 3 and len(unsaid) > 0.5 * len(latin))
    )
