"""The local model."""

from __future__ import annotations

import math
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from regate_adapters.embeddings.wordllama import WordLlamaEmbedder

TEXTS = [
    "The car will not start in winter.",
    "My vehicle does not start when it is cold.",
    "Interest rates of a savings account",
    "x" * 5_000,
]
HOSTILE = ["", " ", "\x00", "\ud800", "日本語", "e\u0301", "🧨" * 300, "\n\n\n"]


def cosine(left: list[float], right: list[float]) -> float:
    return sum(one * other for one, other in zip(left, right, strict=True))


async def test_every_text_has_a_finite_vector_of_unit_length() -> None:
    embedder = WordLlamaEmbedder()

    vectors = await embedder.embed([*TEXTS, *HOSTILE], tenant="acme")

    assert {await embedder.dimensions()} == {len(vector) for vector in vectors}
    assert all(math.isclose(1.0, math.hypot(*vector), rel_tol=1e-9) for vector in vectors)


async def test_texts_without_any_token_share_one_vector() -> None:
    first, second = await WordLlamaEmbedder().embed(["", ""], tenant="acme")

    assert (first[0], sum(first)) == (1.0, 1.0)
    assert list(first) == list(second)


async def test_a_vector_does_not_depend_on_the_batch() -> None:
    embedder = WordLlamaEmbedder()

    together = await embedder.embed(TEXTS, tenant="acme")
    alone = [(await embedder.embed([text], tenant="globex"))[0] for text in TEXTS]

    assert together == alone


async def test_like_meanings_are_nearer_than_others() -> None:
    start, winter, money, _ = [
        list(vector) for vector in await WordLlamaEmbedder().embed(TEXTS, tenant="acme")
    ]

    assert cosine(start, winter) > cosine(start, money) + 0.2


async def test_no_texts_have_no_vectors() -> None:
    assert await WordLlamaEmbedder().embed([], tenant="acme") == []


def test_neither_the_package_nor_the_network_is_touched() -> None:
    program = (
        "import asyncio, sys\n"
        "def audit(event, arguments):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo'): print('network', arguments)\n"
        "sys.addaudithook(audit)\n"
        "from regate_adapters.embeddings.wordllama import WordLlamaEmbedder\n"
        "early = {'tokenizers', 'wordllama'} & set(sys.modules)\n"
        "vectors = asyncio.run(WordLlamaEmbedder().embed(['hello'], tenant='acme'))\n"
        "print(early, 'wordllama' in sys.modules, len(vectors))\n"
    )

    assert _run(program).strip() == "set() False 1"


def test_vectors_are_those_of_the_package_itself() -> None:
    spec = find_spec("wordllama")
    assert spec is not None
    assert spec.origin is not None
    program = (
        "import asyncio, sys, numpy as np\n"
        "from wordllama import WordLlama\n"
        "from regate_adapters.embeddings.wordllama import WordLlamaEmbedder\n"
        f"texts = {[text for text in TEXTS if text]!r}\n"
        f"theirs = WordLlama.load(cache_dir={str(Path(spec.origin).parent)!r}, "
        "disable_download=True).embed(texts, norm=True)\n"
        "ours = asyncio.run(WordLlamaEmbedder().embed(texts, tenant='acme'))\n"
        "print(float(np.abs(np.array(ours) - theirs).max()) < 1e-5)\n"
    )

    assert _run(program).strip() == "True"


def _run(program: str) -> str:
    paths = [str(Path(entry).resolve()) for entry in sys.path if entry]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n" + program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        pytest.fail(done.stderr)
    return done.stdout
