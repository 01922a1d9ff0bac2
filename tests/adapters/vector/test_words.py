"""Words of a text in any language, their scores, and how two scores become one."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regate_adapters.vector.keywords import LENGTH_MATTERS, SATURATION, Posting, bm25, fused
from regate_adapters.vector.words import number_of, sought_words, words_of
from regate_orchestrator.ports import Fusion


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Form QX-7741, form!", {"form": 2, "qx": 1, "7741": 1}),
        ("e\u0301t\u00e9 STRASSE stra\u00dfe", {"\u00e9t\u00e9": 1, "strasse": 2}),
        ("\uff21\uff22\uff23 a_b don't", {"abc": 1, "a": 1, "b": 1, "don": 1, "t": 1}),
        ("\u706f\u53f0\u5b88", {"\u706f\u53f0": 1, "\u53f0\u5b88": 1}),
        ("\u706f x\u706f\u53f0y", {"\u706f": 1, "x": 1, "\u706f\u53f0": 1, "y": 1}),
        ("\u0e2a\u0e27\u0e31\u0e2a", {"\u0e2a\u0e27": 1, "\u0e27\u0e31": 1, "\u0e31\u0e2a": 1}),
        ("\ud55c\uad6d\uc5b4 text", {"\ud55c\uad6d\uc5b4": 1, "text": 1}),
        (
            "\u0939\u093f\u0928\u094d\u0926\u0940 \u0930\u0943\u0923",
            {"\u0939\u093f\u0928\u094d\u0926\u0940": 1, "\u0930\u0943\u0923": 1},
        ),
        ("O\u0323\u0300ro\u0323\u0300 \u1ecd\u0300r\u1ecd\u0300", {"\u1ecd\u0300r\u1ecd\u0300": 2}),
        ("\u0130ZM\u0130R \u0130zmir izmir i\u0307zmir", {"izmir": 4}),
        (
            "\u0643\u0650\u062a\u064e\u0627\u0628 \u0643\u0640\u062a\u0627\u0628",
            {"\u0643\u062a\u0627\u0628": 2},
        ),
        ("\u05e9\u05b8\u05dc\u05d5\u05b9\u05dd", {"\u05e9\u05dc\u05d5\u05dd": 1}),
        (
            "soft\u00adhyphen \u202eword\u202c \u0645\u06cc\u200c\u062f\u0647",
            {"softhyphen": 1, "word": 1, "\u0645\u06cc\u062f\u0647": 1},
        ),
        ("\u0301 a\u0301 -\u0301", {"\u00e1": 1}),
        ("x" * 70, {"x" * 64: 1}),
        ("a\x00b \ud800c", {"a": 1, "b": 1, "c": 1}),
        (" ... \n", {}),
    ],
)
def test_words_of_a_text(text: str, words: dict[str, int]) -> None:
    assert words_of(text) == words


@given(st.text())
def test_words_do_not_hang_on_case_or_composition(text: str) -> None:
    composed = unicodedata.normalize("NFC", text)

    assert words_of(text) == words_of(composed) == words_of(unicodedata.normalize("NFKC", text).casefold())


def test_a_query_is_about_its_first_words() -> None:
    many = " ".join(f"w{number}" for number in reversed(range(2_000)))

    assert sought_words("b a B c a") == ["a", "b", "c"]
    assert sought_words(many) == sorted(f"w{number}" for number in range(1_488, 2_000))


def test_numbers_of_words_are_of_64_bits_and_their_own() -> None:
    numbers = {number_of(f"word{number}") for number in range(1_000)}

    assert len(numbers) == 1_000
    assert all(0 <= number < 1 << 64 for number in numbers)


TEXTS = st.lists(
    st.tuples(st.lists(st.sampled_from("abcdef"), max_size=9).map(" ".join), st.booleans()), max_size=12
)


@given(TEXTS, st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=4))
def test_scores_are_those_of_the_formula_over_the_permitted_texts(
    texts: list[tuple[str, bool]], wanted: list[str]
) -> None:
    counted = [Counter(text.split()) for text, _ in texts]
    lengths = np.array(
        [counts.total() if ok else -1.0 for counts, (_, ok) in zip(counted, texts, strict=True)]
    )
    words = sorted(set(wanted))
    postings = []
    for word in words:
        places = [place for place, counts in enumerate(counted) if word in counts and lengths[place] >= 0]
        often = np.array([float(counted[place][word]) for place in places])
        postings.append(Posting(np.array(places, dtype=np.int64), often))
    scores = bm25(postings, lengths, len(texts))

    permitted = [counts for counts, (_, is_permitted) in zip(counted, texts, strict=True) if is_permitted]
    usual = sum(counts.total() for counts in permitted) / max(len(permitted), 1)
    rare = {}
    for word in words:
        holding = sum(word in counts for counts in permitted)
        rare[word] = math.log(1 + (len(permitted) - holding + 0.5) / (holding + 0.5))
    for (_, is_permitted), counts, score in zip(texts, counted, scores, strict=True):
        damped = SATURATION * (1 - LENGTH_MATTERS + LENGTH_MATTERS * counts.total() / (usual or 1))
        found = sum(rare[word] * counts[word] / (counts[word] + damped) for word in words if counts[word])
        assert score == pytest.approx(found / sum(rare.values()) if is_permitted else 0.0)
        assert 0 <= score <= 1


def test_scores_are_weighed_or_their_ranks_are() -> None:
    similar, worded = np.array([0.9, 0.5, 0.5, 0.1]), np.array([0.0, 0.8, 0.0, 0.4])
    by_rank = fused(similar, worded, Fusion(1, 3, by="rank"))

    assert fused(similar, worded, Fusion(1, 3)).tolist() == pytest.approx([0.225, 0.725, 0.125, 0.325])
    assert by_rank.tolist() == pytest.approx(
        [(61 / 61) / 4, (61 / 62 + 3 * 61 / 61) / 4, (61 / 62) / 4, (61 / 64 + 3 * 61 / 62) / 4]
    )
