"""A chat model of an upstream that is given a task and a text, and is asked for nothing but words. What the
words mean, whoever asks must check.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from regate_adapters.json_endpoint import EndpointFailed, JsonEndpoint, encodable
from regate_orchestrator.values import Json

_CHARACTERS_A_TOKEN: Final = 16


@dataclass(frozen=True, slots=True)
class Said:
    """What a model said, and what it took, as far as it was told. `content` is whatever stood there;
    `is_cut` says that the model had more to say.
    """

    content: object
    is_cut: bool
    input_tokens: int
    output_tokens: int


class ChatEndpoint(JsonEndpoint):
    """One model behind `/chat/completions`. Must be entered before use. `upstream` names it in traces."""

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        max_tokens: int,
        upstream: str = "",
        api_key: str | None = None,
        deadline_s: float = 60.0,
    ) -> None:
        super().__init__(base_url, "/chat/completions", api_key=api_key, deadline_s=deadline_s)
        self.model = model
        self.upstream = upstream
        self.max_tokens = max_tokens

    @property
    def most_characters(self) -> int:
        """Return how long a text is at most that the model may write."""
        return self.max_tokens * _CHARACTERS_A_TOKEN

    async def say(self, task: str, given: str, **options: Json) -> Said:
        """Return the model's answer. Raises `EndpointFailed`, whose text quotes nothing, for any answer
        that is not of a chat completion's shape.
        """
        question = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": task},
                {"role": "user", "content": encodable(given)},
            ],
            "max_tokens": self.max_tokens,
            **options,
        }
        body = await self.ask(question)
        try:
            answer = orjson.loads(body)
            choice = answer["choices"][0]
            usage = answer.get("usage") or {}
            return Said(
                choice["message"]["content"],
                choice.get("finish_reason") == "length",
                _count(usage, "prompt_tokens"),
                _count(usage, "completion_tokens"),
            )
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise EndpointFailed(f"a malformed answer ({type(error).__name__})") from error


def one_line(text: str) -> str:
    """Return the text in one line, without characters that no database keeps."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable()).strip()


def _count(usage: Mapping[str, Any], name: str) -> int:
    """Return how many tokens an answer says; 0 when it says nothing that can be a number of them."""
    said = usage.get(name)
    return said if type(said) is int and said >= 0 else 0
