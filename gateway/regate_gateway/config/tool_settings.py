"""The settings of tools that run here. A part of `settings.py`."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, field_validator

from regate_adapters.mcp.settings import Mcp
from regate_adapters.settings_types import EnvironmentName, ModelName, Name, Section, plain_address

_SECTIONS: Final = ("web_search", "code_interpreter", "image_generation")


class WebSearch(Section):
    """What searches the web. Who may, and which pages may be read, is the policy's to say."""

    kind: Literal["searxng", "brave", "tavily"] = Field(description="The provider.")
    base_url: str = Field(
        description="Address of its API: `https://api.search.brave.com`, `https://api.tavily.com`, or that "
        "of your SearXNG."
    )
    api_key_env: EnvironmentName | None = Field(
        default=None, description="Environment variable that holds its key; none is sent without."
    )
    max_results: int = Field(default=8, ge=1, le=20, description="Most results of one call.")
    deadline_s: float = Field(default=10, gt=0, le=120, description="Longest wait for its answer.")

    @field_validator("base_url")
    @classmethod
    def _plain_base_url(cls, value: str) -> str:
        return plain_address(value, instead="api_key_env")


class CodeInterpreter(Section):
    """Where code runs: a Jupyter server or kernel gateway, never this process. Who may is the policy's to
    say.
    """

    base_url: str = Field(description="Address of the server, without `/api`.")
    api_key_env: EnvironmentName | None = Field(
        default=None, description="Environment variable that holds its token; none is sent without."
    )
    kernel: str = Field(
        default="", max_length=128, description="Name of the kernel to start; empty for the server's default."
    )
    deadline_s: float = Field(default=60, gt=0, le=600, description="Time that one call may take.")
    max_output: int = Field(
        default=65_536, ge=256, le=4_194_304, description="Most characters of what one call writes."
    )
    max_file_bytes: int = Field(
        default=8_388_608, ge=1, le=67_108_864, description="Largest file that goes in or comes out."
    )
    idle_s: float = Field(
        default=1_200, gt=0, le=86_400, description="A container that was not used for so long is deleted."
    )
    max_containers: int = Field(default=32, ge=1, le=10_000, description="Containers at a time.")
    max_containers_each: int = Field(
        default=4, ge=1, le=1_000, description="Containers of one person at a time."
    )

    @field_validator("base_url")
    @classmethod
    def _plain_base_url(cls, value: str) -> str:
        return plain_address(value, instead="api_key_env")


class ImageGeneration(Section):
    """What makes images: the `/images/generations` of an upstream. Who may is the policy's to say."""

    upstream: Name = Field(description="Name of the upstream.")
    model: ModelName = Field(description="The model to ask for.")
    deadline_s: float = Field(default=120, gt=0, le=600, description="Time that one image may take.")
    max_bytes: int = Field(
        default=4_194_304,
        ge=1,
        le=33_554_432,
        description="Largest image. The policy's `max_tool_result_bytes` holds as well.",
    )
    asks_for_base64: bool = Field(
        default=False,
        description="Send `response_format: b64_json`, where the upstream answers with an address else.",
    )


class Tools(Section):
    """What bounds the loop in which a model calls tools, and which tools run here."""

    max_rounds: int = Field(default=10, ge=1, le=100, description="Calls of the model within one response.")
    max_tool_calls: int = Field(
        default=32, ge=1, le=1_000, description="Tool calls within one response; a request may ask for fewer."
    )
    max_background: int = Field(
        default=64,
        ge=1,
        le=10_000,
        description="Background responses that run at once; the others wait, queued.",
    )
    omit: tuple[str, ...] = Field(
        default=(),
        description="Types of tools that this gateway cannot run and that are left out of a request, as if "
        "policy hid them, rather than refused; e.g. `web_search`.",
    )
    mcp: Mcp = Field(default_factory=Mcp)
    web_search: WebSearch | None = Field(
        default=None, description="What searches the web; without it there is no such tool."
    )

    code_interpreter: CodeInterpreter | None = Field(
        default=None, description="Where code runs; without it there is no such tool."
    )

    image_generation: ImageGeneration | None = Field(
        default=None, description="What makes images; without it there is no such tool."
    )

    @property
    def sections(self) -> frozenset[str]:
        """The sections of tools that are set up."""
        return frozenset(name for name in _SECTIONS if getattr(self, name) is not None)
