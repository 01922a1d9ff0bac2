"""The words of a text, as a search by words counts them, in any language. Used by the engines that have no
search by words that depends on the permitted chunks alone; `keywords.py`, the counterpart, scores them.

Words are runs of letters and digits with the marks on them, compared without regard to case, width and
composition (Unicode NFKC and case folding), to what is not seen, and to the vowel points of Arabic and
Hebrew, which are seldom written. The dot that a Turkish capital keeps when it becomes small is left out too.
Chinese, Japanese, and Thai write no spaces, so there each two neighbouring characters are a word, as in
Lucene's CJK analysis. No word is left out or cut to a stem: which language a text is in is not known.
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
_WITH_MARKS: Final = (
    (0x300, 0x3100),
    (0xA600, 0xAC00),
    (0xFE20, 0xFE30),
    (0x10A00, 0x12000),
    (0x1E000, 0x1E950),
)
"""Where Unicode has marks on letters, that others are not looked at when a gateway starts."""
_MARKS: Final = "".join(
    chr(code)
    for first, end in _WITH_MARKS
    for code in range(first, end)
    if unicodedata.category(chr(code)).startswith("M") and not re.match(f"[{_UNSPACED}]", chr(code))
)
_LETTERS: Final = rf"[^\W_{_UNSPACED}]"
_RUN: Final = re.compile(rf"(?P<unspaced>[{_UNSPACED}]+)|{_LETTERS}+(?:[{_MARKS}]+{_LETTERS}+)*[{_MARKS}]*")
_PLAIN_RUN: Final = re.compile("(?P<unspaced>(?!))|[a-z0-9]+")
_LEFT_OUT: Final = re.compile(
    "[\u00ad\u034f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"  # not seen
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc"
    "\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed]+"
)


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
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _LEFT_OUT.sub("", folded).replace("i\u0307", "i")


def _words(text: str) -> Iterator[str]:
    for run in (_PLAIN_RUN if text.isascii() else _RUN).finditer(text):
        found = run[0]
        if run["unspaced"] is None or len(found) == 1:
            yield found[:_LONGEST]
        else:
            yield from (found[start : start + 2] for start in range(len(found) - 1))
