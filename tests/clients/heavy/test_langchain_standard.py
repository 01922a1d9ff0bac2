"""LangChain's own standard tests of a chat model, run on `ChatOpenAI` before the gateway: by responses and by
chat completions.

Its tests of pictures and documents fetch them from the internet, so they are not run: `test_langchain.py` has
the like.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests
from tests.clients.serving import Served


class _Standard(ChatModelIntegrationTests):
    by_responses: bool
    gateway: Served
    http: Any

    @pytest.fixture(autouse=True)
    async def _before_the_gateway(self, gateway: Served) -> AsyncIterator[None]:
        """Connections belong to the test, since LangChain's own outlive the event loop."""
        async with openai.DefaultAsyncHttpxClient() as self.http:
            self.gateway = gateway
            yield

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": "small",
            "base_url": self.gateway.url,
            "api_key": self.gateway.token,
            "max_retries": 0,
            "use_responses_api": self.by_responses,
            "stream_usage": True,
            "http_async_client": self.http,
        }

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "large"


class TestByResponses(_Standard):
    by_responses = True


class TestByChatCompletions(_Standard):
    by_responses = False
