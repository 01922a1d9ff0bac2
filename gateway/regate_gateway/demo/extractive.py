"""A model that only quotes: it asks for a search, then answers with sentences that stand in its prompt. Pure;
`backend.py` serves it.

It knows nothing and invents nothing. What it says was in the prompt, word for word, so whatever a policy
failed to keep out of the prompt, an old answer in the history included, would be there to read.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

SEARCH: Final = "file_search"
UNKNOWN: Final = "The documents I was shown do not say."

Message: TypeAlias = Mapping[str, object]

_MAX_QUERY: Final = 400
_MAX_SENTENCES: Final = 2
_FEWEST_SHARED: Final = 0.4  # of the question's weight; less than this is chance
_NEARLY_AS_GOOD: Final = 0.8
_HEADING_WEIGHT: Final = 0.6

_BLOCK: Final = re.compile(r"^【(\d{1,4})】 file: ([^\n]*)\n", re.MULTILINE)
_MARKER: Final = re.compile(r"[ \t]?【[^】\n]{0,32}】")
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"“(])")
_LIST_SIGN: Final = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+")
_WORD: Final = re.compile(r"[^\W_]+(?:[.,]\d+)*")
_FOLLOW_UP: Final = re.compile(r"\s*(?:and|but|or|what about|how about|also)\b", re.IGNORECASE)
_COMMON_WORDS: Final = """
a about after all also am an and any are as at be been before but by can could did do does for from get give
had has have how i if in into is it its just like long many may me much must my no not of on one only or our
out shall should so some such tell than that the their them then there these they this those to up us was we
were what when where which while who whom whose why will with would you your please happen happens company
policy
"""
_COMMON: Final = frozenset(_COMMON_WORDS.split())


@dataclass(frozen=True, slots=True)
class Quote:
    """A sentence of the prompt, the marker of the passage it stands in (None for one of an earlier
    answer), and the words around it.
    """

    text: str
    marker: int | None
    words: frozenset[str]
    heading: frozenset[str]


@dataclass(frozen=True, slots=True)
class Search:
    """The model asks for a search."""

    query: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The model answers."""

    text: str


def reply(messages: Sequence[Message], *, may_search: bool, must_search: bool = False) -> Search | Answer:
    """Return a search while the last question has none, where one may be made; else the answer that
    the prompt holds.
    """
    questions = [_content(message) for message in messages if message.get("role") == "user"]
    question, stress = _full_question(questions)
    if may_search and (must_search or not _searched(messages)):
        return Search(question[:_MAX_QUERY].strip() or "everything")
    return Answer(answer(question, list(quotes(messages)), stress=stress))


def answer(question: str, candidates: Sequence[Quote], *, stress: frozenset[str] = frozenset()) -> str:
    """Return the best matching sentences with their markers, in the order of the prompt, or that there are
    none.

    Where there are words to `stress`, only sentences that hold one, or stand below a heading that does, come
    into question.
    """
    asked = words(question)
    weights = _weights(candidates)
    # A word that no sentence has weighs as much as the rarest one there is: a question about something else
    # must not match by the rest.
    rarest = max(weights.values(), default=1.0)
    total = sum(weights.get(word, rarest) for word in asked)
    scores = [
        _score(quote, asked, weights) if not stress or stress & (quote.words | quote.heading) else 0.0
        for quote in candidates
    ]
    best = max(scores, default=0.0)
    if total == 0 or best < _FEWEST_SHARED * total:
        return UNKNOWN
    order = sorted(
        range(len(candidates)), key=lambda place: (-scores[place], candidates[place].marker is None, place)
    )
    chosen = [place for place in order if scores[place] >= _NEARLY_AS_GOOD * best][:_MAX_SENTENCES]
    return " ".join(_quoted(candidates[place]) for place in sorted(chosen))


def quotes(messages: Sequence[Message]) -> Iterator[Quote]:
    """Yield every sentence of the prompt's passages and earlier answers once, the passages first and
    the latest before the others.
    """
    seen: set[str] = set()
    tools = [_content(message) for message in reversed(messages) if message.get("role") == "tool"]
    answers = [_content(message) for message in reversed(messages) if message.get("role") == "assistant"]
    found = (quote for text in tools for quote in _passages(text))
    said = (quote for text in answers for quote in _sentences(_MARKER.sub("", text), marker=None, heading=""))
    for quote in (*found, *said):
        if quote.text not in seen and quote.text != UNKNOWN:
            seen.add(quote.text)
            yield quote


def words(text: str) -> frozenset[str]:
    """Return the words that carry meaning, in lower case and without the commonest endings."""
    return frozenset(_stem(word) for word in _WORD.findall(text.lower()) if word not in _COMMON)


def _full_question(questions: Sequence[str]) -> tuple[str, frozenset[str]]:
    """Return the last question, and the words in it to stress where it needed the one before it to be
    understood ("And for contractors?").
    """
    if not questions:
        return "", frozenset()
    last = questions[-1]
    depends = len(words(last)) < 2 or (_FOLLOW_UP.match(last) is not None and len(words(last)) < 5)
    return (f"{questions[-2]} {last}", words(last)) if depends and len(questions) > 1 else (last, frozenset())


def _searched(messages: Sequence[Message]) -> bool:
    """Return whether a tool result follows the last user message."""
    for message in reversed(messages):
        if message.get("role") == "tool":
            return True
        if message.get("role") == "user":
            return False
    return False


def _content(message: Message) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(str(part.get("text", "")) for part in parts if isinstance(part, Mapping))


def _passages(text: str) -> Iterator[Quote]:
    starts = list(_BLOCK.finditer(text))
    for start, end in zip(starts, [*(start.start() for start in starts[1:]), len(text)], strict=False):
        yield from _sentences(text[start.end() : end], marker=int(start.group(1)), heading=start.group(2))


def _sentences(text: str, *, marker: int | None, heading: str) -> Iterator[Quote]:
    """Yield a passage's sentences. Lines of one paragraph are joined; Markdown headings are context
    for what follows, no sentences.
    """
    context = words(heading.rpartition(".")[0] or heading)
    title: frozenset[str] = frozenset()
    for block in _blocks(text):
        if block.startswith("#"):
            title = words(block)
            continue
        for sentence in _SENTENCE_END.split(block):
            if meaning := words(sentence):
                yield Quote(sentence.strip(), marker, meaning, context | title)


def _blocks(text: str) -> Iterator[str]:
    lines: list[str] = []
    for line in (*text.splitlines(), ""):
        begins = not line.strip() or line.startswith("#") or _LIST_SIGN.match(line) is not None
        if begins and lines:
            yield " ".join(lines)
            lines = []
        if line.startswith("#"):
            yield line
        elif line.strip():
            lines.append(_LIST_SIGN.sub("", line).strip())


def _weights(candidates: Iterable[Quote]) -> dict[str, float]:
    """Return each word's rarity among the sentences (inverse document frequency)."""
    counts: Counter[str] = Counter()
    number = 0
    for quote in candidates:
        number += 1
        counts.update(quote.words)
    return {word: math.log(1 + number / count) for word, count in counts.items()}


def _score(quote: Quote, asked: frozenset[str], weights: Mapping[str, float]) -> float:
    direct = sum(weights[word] for word in asked & quote.words)
    around = sum(weights.get(word, 0.0) for word in asked & (quote.heading - quote.words))
    return direct + _HEADING_WEIGHT * around if direct else 0.0


def _quoted(quote: Quote) -> str:
    return quote.text if quote.marker is None else f"{quote.text} 【{quote.marker}】"


def _stem(word: str) -> str:
    for ending in ("ies", "ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            stem = word[: -len(ending)]
            return stem + "y" if ending == "ies" else stem.removesuffix("e")
    return word.removesuffix("e") if len(word) > 4 else word


def arguments(query: str) -> str:
    """Return the arguments of the search call, as the text a model writes."""
    return json.dumps({"query": query}, ensure_ascii=False)
