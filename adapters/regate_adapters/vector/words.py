"""The words of a text, as a search by words counts them, in any language. Used by the engines that have no
search by words that depends on the permitted chunks alone; `keywords.py`, the counterpart, scores them.

Words are runs of letters and digits, compared without regard to case, width and composition (Unicode
NFKC and case folding). Chinese, Japanese, and Thai write no spaces, so there each two neighbouring
characters are a word, as in Lucene's CJK analysis. Nothing is left out or cut to a stem: which language a
text is in is not known.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Final

_LONGEST: Final = 64
_MOST_SOUGHT: Final = 512
_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
)
_RUN: Final = re.compile(rf"(?P<unspaced>[{_UNSPACED}]+)|[^\W_{_UNSPACED}]+")


def words_of(text: str) -> Counter[str]:
    """Return the words of the text and how often each is there."""
    return Counter(_words(_plain(text)))


def sought_words(query: str) -> list[str]:
    """Return the distinct words that a query is about, ascending: the first 512, as each costs a look."""
    return sorted(islice(dict.fromkeys(_words(_plain(query))), _MOST_SOUGHT))


@lru_cache(maxsize=1 << 16)
def number_of(word: str) -> int:
    """Return the 64-bit number under which a word is looked up."""
    return int.from_bytes(
        hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest(), "little"
    )


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _words(text: str) -> Iterator[str]:
    for run in _RUN.finditer(text):
        found = run[0]
        if run["unspaced"] is None or len(found) == 1:
            yield found[:_LONGEST]
        else:
            yield from (found[start : start + 2] for start in range(len(found) - 1))
