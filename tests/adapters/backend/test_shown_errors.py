"""What callers may see of an upstream's own words: what it says, and nothing of where it is or what
opens it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from regate_adapters.backend.shown_errors import shown_words
from regate_adapters.backend.upstreams import Upstreams
from regate_orchestrator.errors import UpstreamError

if TYPE_CHECKING:
    from tests.adapters.backend.conftest import ScriptedUpstream

WORDS = "Invalid schema: $ref '#/$defs/city' does not exist."


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ({"error": {"message": WORDS, "type": "invalid_request_error"}}, WORDS),
        ({"error": WORDS}, WORDS),
        ({"object": "error", "message": WORDS}, WORDS),
        ({"detail": WORDS}, WORDS),
        (
            {"detail": [{"loc": ["body", "top_k"], "msg": "Extra inputs are not permitted"}]},
            "top_k: Extra inputs are not permitted",
        ),
        ({"message": {"detail": [{"msg": "a"}, {"msg": "b"}]}}, "a; b"),
        ({"error": {"code": 5}}, ""),
        (["text"], ""),
        ({"error": {"message": "a\nb\u2028c\u202ed"}}, "a b c d"),
    ],
)
def test_message_is_found_where_backends_put_it(answer: Any, shown: str) -> None:
    assert shown_words(json.dumps(answer)) == shown


@pytest.mark.parametrize("answer", ["", "Bad Request", "<html>no</html>", '{"error": '])
def test_what_is_no_json_shows_nothing(answer: str) -> None:
    assert shown_words(answer) == ""


HIDDEN = [
    "http://10.0.0.5:8000/v1/models",
    "https://llm.acme.internal/v1?key=1",
    "postgresql://u:p@db/x",
    "10.0.0.5",
    "10.0.0.5:8000",
    "[fd00::1]:8000",
    "fe80::1ff:fe23:4567:890a",
    "llm.acme.internal",
    "vllm-0.vllm.svc.cluster.local:8000",
    "vllm:8000",
    "localhost:11434",
    "/root/.cache/models/secret-7b",
    "C:\\models\\secret",
    "sk-proj-abcdefghijklmnop",
    "Bearer abc.def.ghi",
    "api_key=hunter2",
    "password: hunter2",
    "hf_abcdefghijklmnopqrst",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln",
    "3f2a9c8e7b6d5f4a3b2c1d0e9f8a7b6c",
]


@pytest.mark.parametrize("hidden", HIDDEN)
def test_addresses_paths_and_secrets_are_taken_out(hidden: str) -> None:
    shown = shown_words(
        json.dumps({"error": {"message": f"The request to {hidden} failed for 'temperature'."}})
    )
    assert shown.startswith("The request to …")
    assert shown.endswith(" failed for 'temperature'.")


@pytest.mark.parametrize(
    "words",
    [
        "temperature must be at most 2.0, got 3.5",
        "This model does not support image input. Supported: text/plain, text/html",
        "Unsupported value: 'tools[0].function.name' does not match '^[a-zA-Z0-9_-]+$'.",
        "The model `Qwen/Qwen3-32B` does not support tools; see max_completion_tokens.",
    ],
)
def test_plain_words_stay(words: str) -> None:
    assert shown_words(json.dumps({"error": {"message": words}})) == words


def test_long_words_are_cut() -> None:
    assert len(shown_words(json.dumps({"error": {"message": "word " * 1_000}}))) == 501


@pytest.mark.parametrize("show", [True, False])
@pytest.mark.parametrize(("status", "expected"), [(400, 400), (422, 400), (501, 400), (500, 502), (401, 502)])
async def test_only_refusals_are_shown_and_only_where_the_operator_wants_it(
    upstream: ScriptedUpstream, *, show: bool, status: int, expected: int
) -> None:
    body = json.dumps({"error": {"message": f"{WORDS} key sk-upstream"}}).encode()
    upstream.script = lambda exchange: exchange.answer(status, body)
    async with Upstreams([upstream.config(show_errors=show)]) as pool:
        with pytest.raises(UpstreamError) as raised:
            async with pool.open("scripted", "/chat/completions", {"model": "m"}, accept_stream=False):
                pass
    assert (raised.value.status, WORDS in raised.value.message, WORDS in raised.value.detail) == (
        expected,
        show and expected == 400,
        True,
    )
    assert "sk-upstream" not in raised.value.message + raised.value.detail


def test_no_part_of_a_secret_is_shown_where_a_long_message_is_cut() -> None:
    address = "http://10.0.0.5:8000/" + "x" * 300 + " "  # each of which is hidden, so that much is read
    for filling in range(40):
        shown = shown_words(
            json.dumps({"error": address * 3 + "b" * filling + " sk-AbCdEfGhIjKlMnOpQrStUvWxYz"})
        )
        assert "sk-" not in shown
        assert shown.endswith("…")


def test_of_a_long_message_without_blanks_nothing_is_shown() -> None:
    assert shown_words(json.dumps({"error": "a-" * 2_000})) == ""
