from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from regate_adapters.backend.stream.chat_events import ChatTranslator
from regate_orchestrator.errors import UpstreamError

if TYPE_CHECKING:
    from tests.adapters.backend.conftest import ScriptedUpstream

    from regate_adapters.backend.upstreams import Upstreams


def envelope(message: str, **others: Any) -> dict[str, Any]:
    return {"error": {"message": message, **others}}


SAID: dict[str, tuple[int, object]] = {
    "OpenAI": (
        400,
        envelope(
            "Your input exceeds the limit.",
            type="invalid_request_error",
            param="messages",
            code="context_length_exceeded",
        ),
    ),
    "vLLM": (
        400,
        {
            "object": "error",
            "message": "This model's maximum context length is 4096 tokens. However, you requested 5000.",
            "code": 400,
        },
    ),
    "vLLM, newer": (
        400,
        envelope(
            "The decoder prompt (length 9000) is longer than the maximum model length of 8192.", code=400
        ),
    ),
    "SGLang": (
        400,
        {"message": "The input (9000 tokens) is longer than the model's context length (8192 tokens)."},
    ),
    "llama.cpp": (
        400,
        envelope(
            "request (4390 tokens) exceeds the available context size (4096 tokens), try increasing it",
            code=400,
        ),
    ),
    "llama.cpp, older": (
        500,
        envelope("the request exceeds something", code=500, type="exceed_context_size_error", n_ctx=256),
    ),
    "Ollama": (400, {"error": "the input length exceeds the context length"}),
    "Ollama, as text": (400, "input length exceeds maximum context length"),
    "compatible with Anthropic": (
        400,
        envelope("prompt is too long: 215000 tokens > 200000 maximum", type="invalid_request_error"),
    ),
    "text-generation-inference": (
        422,
        {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096."},
    ),
}

NOT_SAID: dict[str, tuple[int, object, int]] = {
    "another refusal": (400, envelope("Unknown parameter: 'top_q'.", code="unknown_parameter"), 400),
    "the same words, quoted from the request": (
        422,
        {"detail": [{"input": "what is the maximum context length?", "msg": "wrong"}]},
        400,
    ),
    "the same words in a failure of the server": (
        500,
        envelope("the maximum context length of a crash report was reached"),
        502,
    ),
    "a limit on requests": (429, envelope("maximum context length", code="context_length_exceeded"), 429),
}


def as_bytes(answer: object) -> bytes:
    return answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()


async def refusal(
    upstream: ScriptedUpstream, upstreams: Upstreams, status: int, answer: object
) -> UpstreamError:
    upstream.script = lambda exchange: exchange.answer(
        status, as_bytes(answer), "Content-Type: application/json"
    )
    with pytest.raises(UpstreamError) as raised:
        async with upstreams.open("scripted", "/chat/completions", {}, accept_stream=True):
            pass
    return raised.value


@pytest.mark.parametrize("case", SAID)
async def test_request_that_is_too_long_is_the_callers_to_mend(
    upstream: ScriptedUpstream, upstreams: Upstreams, case: str
) -> None:
    status, answer = SAID[case]
    error = await refusal(upstream, upstreams, status, answer)
    assert (error.status, error.code) == (400, "context_length_exceeded")
    assert "context window" in error.message


@pytest.mark.parametrize("case", NOT_SAID)
async def test_what_does_not_say_so_is_not_taken_for_it(
    upstream: ScriptedUpstream, upstreams: Upstreams, case: str
) -> None:
    status, answer, expected = NOT_SAID[case]
    error = await refusal(upstream, upstreams, status, answer)
    assert (error.status, error.code == "context_length_exceeded") == (expected, False)


@pytest.mark.parametrize("case", ["OpenAI", "vLLM", "llama.cpp", "llama.cpp, older", "Ollama"])
def test_stream_that_says_so_is_read_alike(case: str) -> None:
    with pytest.raises(UpstreamError) as raised:
        ChatTranslator().read(as_bytes(SAID[case][1]))
    assert (raised.value.status, raised.value.code) == (400, "context_length_exceeded")
