"""A real engine behind the gateway, met by the official client: what scripted upstreams are made to
say, this one says by itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from tests.clients.serving import served

pytest.importorskip("xllamacpp", reason="there is no llama.cpp (`make clients` brings it)")

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOO_LONG = "a" * 3_000


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    engine = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("llama_engine.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert engine.stdin is not None
    assert engine.stdout is not None
    try:
        url = engine.stdout.readline().strip()
        with served({"name": "llama", "kind": "llamacpp", "base_url": f"{url}/v1"}) as gateway:
            yield openai.OpenAI(base_url=gateway.url, api_key=gateway.token, max_retries=0)
    finally:
        engine.stdin.close()
        engine.wait(timeout=60)
        engine.stdout.close()


def test_model_is_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["random"]


def test_answer_that_is_cut_is_incomplete_and_counted(client: openai.OpenAI) -> None:
    response = client.responses.create(model="random", input="Hello", max_output_tokens=16)

    assert (response.status, response.incomplete_details and response.incomplete_details.reason) == (
        "incomplete",
        "max_output_tokens",
    )
    assert response.output_text
    assert response.usage is not None
    assert response.usage.output_tokens == 16


def test_stream_brings_what_the_response_holds(client: openai.OpenAI) -> None:
    events = list(client.responses.create(model="random", input="Hello", max_output_tokens=32, stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")

    assert text
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.output_text == text


def test_structured_output_follows_its_schema(client: openai.OpenAI) -> None:
    format_ = {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}

    response = client.responses.create(model="random", input="Where?", text={"format": format_})  # type: ignore[typeddict-item]

    assert response.status == "completed"
    assert json.loads(response.output_text)["city"] in ("Paris", "Rome")


def test_conversation_goes_on(client: openai.OpenAI) -> None:
    first = client.responses.create(model="random", input="Hello", max_output_tokens=16)
    second = client.responses.create(
        model="random", input="And then?", previous_response_id=first.id, max_output_tokens=16
    )

    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens


def test_instructions_and_developer_messages_are_one_prompt(client: openai.OpenAI) -> None:
    said = [
        {"role": "user", "content": "Hello"},
        {"role": "developer", "content": "Briefly."},
        {"role": "user", "content": "Well?"},
    ]

    response = client.responses.create(
        model="random", instructions="Be kind.", input=said, max_output_tokens=16
    )  # type: ignore[arg-type]

    assert response.output_text


@pytest.mark.parametrize("is_streamed", [False, True])
def test_too_long_a_prompt_is_told_as_such(client: openai.OpenAI, is_streamed: bool) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="random", input=TOO_LONG, stream=is_streamed)

    assert caught.value.code == "context_length_exceeded"


def test_too_long_a_chat_is_told_as_such(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="random", messages=[{"role": "user", "content": TOO_LONG}])

    assert caught.value.code == "context_length_exceeded"


def test_chat_completion_and_its_stream(client: openai.OpenAI) -> None:
    ask = {"model": "random", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16}

    whole = client.chat.completions.create(**ask)  # type: ignore[call-overload]
    pieces = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))  # type: ignore[call-overload]

    assert whole.choices[0].finish_reason == "length"
    assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens == 16


def test_what_the_engine_does_not_have_is_refused_for_good(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.embeddings.create(model="random", input="Hello")

    assert 400 <= caught.value.status_code < 500
