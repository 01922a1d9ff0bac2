"""Whether characters are text that somebody could read, or only look like it. A part of `formats.py`.

Fonts that do not say which characters they show give their own codes in the place of characters, and an
encoding that was guessed wrong gives other characters; what nobody can read must not pass for the text of a
file.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from itertools import pairwise
from typing import Final

_NO_TEXT: Final = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd\ufffe\uffff\ud800-\udfff\ue000-\uf8ff\U000f0000-\U0010ffff]"
)
_SIGNS: Final = re.compile(
    "[\u00a1-\u00a6\u00a8\u00aa\u00ac\u00ae-\u00af\u00b1-\u00b4\u00b6\u00b8-\u00ba\u00bc-\u00be\u00d7\u00f7]"
)
"""Signs of Latin-1 that are rare in any text, and frequent where bytes of another encoding are taken
for it.
"""
_SAMPLE: Final = 20_000
_TENTH: Final = 0.1
_RARE: Final = 0.03
_FEW: Final = 0.02
_FAR_TOO_MANY_SCRIPTS: Final = 4
_SELDOM: Final = re.compile("[\u0180-\u02af\u0300-\u036f]")
"""Letters of phonetics and of few languages, and marks that letters carry: where codes begin that are
taken for characters.
"""
_KEYBOARD_SIGNS: Final = re.compile(r"[!-,/:-@\[-`{-~]")
_SCRIPTS: Final = (
    "LATIN",
    "CYRILLIC",
    "GREEK",
    "HEBREW",
    "ARABIC",
    "THAI",
    "HANGUL",
    "CJK",
    "HIRAGANA",
    "KATAKANA",
    "ARMENIAN",
    "GEORGIAN",
)
_TOGETHER: Final = frozenset({"CJK", "HIRAGANA", "KATAKANA", "HANGUL"})
_STYLES: Final = frozenset(
    {
        "MATHEMATICAL",
        "MODIFIER",
        "SCRIPT",
        "DOUBLE-STRUCK",
        "FULLWIDTH",
        "HALFWIDTH",
        "MICRO",
        "FEMININE",
        "MASCULINE",
    }
)
"""How the names of letters begin that are those of other scripts, drawn in another way."""
_JOINED: Final = re.compile("[A-Za-z][^\x00-\u024f]|[^\x00-\u024f][A-Za-z]")
"""A letter of ours beside one of another script: in names of products, but seldom."""
_WITHIN_WORDS: Final = re.compile(
    "[^\\W\\d_]([\u2020\u2021\u2026\u2030\u2018\u201c\u201d\u2039\u203a\u00a1\u00bf\u00a7\u00ab\u00bb][^\\W\\d_]|[\u201a\u201e])"
)
"""Signs that do not stand between two letters, where older machines had their accented letters."""
_ACCENTED_WORD: Final = re.compile("[\u00c0-\u00ff]{5}")
"""More accented letters together than any language has that is written with Latin ones."""
_SIGN_KINDS: Final = frozenset({"So", "Sm", "Sc", "Sk", "No"})
_OF_WORDS: Final = frozenset("°©®™€$£¥^`´+=~|<>")
"""Signs that do stand beside letters."""


def is_gibberish(text: str) -> bool:
    """Return whether a good part of the text is no text: characters that mean nothing, or signs where
    words would be.
    """
    sample = re.sub(r"\s+", "", text[:_SAMPLE])
    if not sample:
        return False
    unread = len(_NO_TEXT.findall(sample))
    signs = len(_SIGNS.findall(sample))
    unassigned = sum(
        unicodedata.category(character) == "Cn"
        for character in set(sample)
        if character not in "\ufffe\uffff"
    )
    return unread + unassigned > _TENTH * len(sample) or signs > 2 * _TENTH * len(sample)


def is_plain(text: str) -> bool:
    """Return whether what may be codes in the place of characters are characters: of few scripts, in
    common use, and not mostly signs.
    """
    sample = re.sub(r"\s+", "", text[:_SAMPLE])
    letters = [character for character in sample if character.isalpha()]
    scripts = Counter(
        script
        for letter in letters
        if (script := unicodedata.name(letter, "").split(" ", 1)[0]) not in _TOGETHER | _STYLES
    )
    frequent = sum(count > _FEW * len(letters) for count in scripts.values())
    return (
        frequent < _FAR_TOO_MANY_SCRIPTS
        and len(_NO_TEXT.findall(sample)) <= _RARE * len(sample)
        and len(_SELDOM.findall(sample)) <= 2 * _TENTH * len(sample)
        and len(_KEYBOARD_SIGNS.findall(sample)) <= 3 * _TENTH * len(sample)
    )


def is_misread(text: str) -> bool:
    """Return whether words are made of several scripts, or of letters and signs, as they are when
    bytes are read in the wrong encoding.
    """
    words = text[:_SAMPLE].split()
    misread = sum(_is_misread(word) for word in words)
    return misread > 0 and misread >= _TENTH * len(words)


def _is_misread(word: str) -> bool:
    scripts = {script for character in word if (script := _script(character))}
    several = len(scripts) > 1 and not scripts <= _TOGETHER and _JOINED.search(word) is not None
    return (
        several
        or _WITHIN_WORDS.search(word) is not None
        or _ACCENTED_WORD.search(word) is not None
        or any(lower.islower() and inner > "\x7f" and inner.isupper() for lower, inner in pairwise(word))
        or any(
            unicodedata.category(sign) in _SIGN_KINDS
            and sign not in _OF_WORDS
            and (before.isalpha() or after.isalpha())
            for before, sign, after in zip(" " + word, word, word[1:] + " ", strict=False)
        )
    )


def _script(character: str) -> str:
    if not character.isalpha():
        return ""
    first = unicodedata.name(character, "").split(" ", 1)[0]
    return first if first in _SCRIPTS else ""
