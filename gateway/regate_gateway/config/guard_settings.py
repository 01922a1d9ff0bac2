"""The settings of guards: who looks at texts, at which steps. A part of `settings.py`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from regate_adapters.settings_types import EnvironmentName, Name, Section, plain_address
from regate_orchestrator.ports import GuardStep


class GuardEntry(Section):
    """One guard."""

    name: Name = Field(description="Name of the guard, unique; used in records and metrics.")
    kind: Literal["detector", "moderation", "classifier"] = Field(
        description=(
            "What it is: the detector that runs here, an endpoint `/moderations` in OpenAI's shape, or a "
            "model that answers `safe` or `unsafe` to a chat completion."
        )
    )
    steps: tuple[GuardStep, ...] = Field(
        min_length=1,
        description=(
            "Where it looks: `input`, `chunk`, `tool_arguments`, `tool_result`, `output`. At a step without "
            "a guard nothing is looked at."
        ),
    )
    base_url: str | None = Field(
        default=None,
        description=(
            "Address of its API, up to and including `/v1`; required unless it is the detector. Texts of "
            "callers are sent there."
        ),
    )
    api_key_env: EnvironmentName | None = Field(
        default=None, description="Environment variable that holds the key sent to it; none is sent without."
    )
    model: str | None = Field(
        default=None, min_length=1, description="The model to ask for; required unless it is the detector."
    )
    deadline_s: Annotated[float, Field(gt=0, le=60)] = Field(
        default=5, description="Longest wait for its answer."
    )
    on_failure: Literal["block", "pass"] = Field(
        default="block",
        description=(
            "When it gives no usable answer: `block` what it should have looked at (503), or let the policy "
            "decide without it and count the failure."
        ),
    )

    @field_validator("base_url")
    @classmethod
    def _plain_base_url(cls, value: str | None) -> str | None:
        return None if value is None else plain_address(value, instead="api_key_env")

    @model_validator(mode="after")
    def _as_its_kind(self) -> Self:
        if self.kind == "detector":
            if (self.base_url, self.model, self.api_key_env) != (None, None, None):
                raise ValueError("base_url, model and api_key_env belong to the other kinds: it runs here")
        elif self.base_url is None or self.model is None:
            raise ValueError(f"base_url and model must be set with kind {self.kind}")
        return self


class GuardSettings(Section):
    """Who looks at texts before they go further. What follows from what they find is the policy's to say."""

    providers: tuple[GuardEntry, ...] = Field(
        default=(), description="The guards; each entry has the keys below."
    )
    window: int = Field(
        default=256,
        ge=32,
        le=8_192,
        description="Characters of an answer that are checked at a time while it is written.",
    )
    overlap: int = Field(
        default=128,
        ge=16,
        le=4_096,
        description=(
            "Characters before and after them that are looked at as well; so much, and a window, is held "
            "back."
        ),
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [entry.name for entry in self.providers]
        if len(set(names)) != len(names):
            raise ValueError("two guards have the same name")
        return self

    @property
    def steps(self) -> frozenset[GuardStep]:
        """The steps at which somebody looks."""
        return frozenset(step for entry in self.providers for step in entry.steps)
