"""What requests to `/v1/prompts` may hold, and what names a prompt in a request."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from regate_gateway.http.misfits import MAX_TYPE, misfit
from regate_gateway.http.models import Id, Metadata, RequestModel
from regate_gateway.routes.responses.client_tools import SHAPES as CLIENT_SHAPES

_TOOLS: Final = ("function", "custom", "namespace", "file_search", "tool_search", *CLIENT_SHAPES)


def _require_text(name: str) -> str:
    if not name.strip():
        raise misfit("'{place}' must not be empty.")
    return name


PromptName = Annotated[
    str, Field(max_length=256, description="What people call it."), AfterValidator(_require_text)
]

Template = Annotated[
    dict[str, Any],
    Field(
        description=(
            "`instructions`, `input` and settings of a response, with variables as `{{name}}`. See "
            "docs/prompts.md."
        )
    ),
]
"""A template as it is kept, which `template.py` judges."""


class PromptRequest(RequestModel):
    """A new prompt, with its first version."""

    name: PromptName
    template: Template
    metadata: Metadata = Field(default_factory=dict)


class PromptUpdate(RequestModel):
    """Another name, another default version, or both."""

    name: PromptName | None = None
    default_version: Id | None = Field(None, description="The number of a version.")

    @model_validator(mode="after")
    def _require_one(self) -> Self:
        if self.name is None and self.default_version is None:
            text = "Give 'name', 'default_version' or both."
            raise misfit(text, code="missing_required_parameter", member="name")
        return self


class PromptVersionRequest(RequestModel):
    """A new version of a prompt."""

    template: Template


class PromptUse(RequestModel):
    """The prompt that a request uses."""

    id: Id
    version: Id | None = Field(None, description="The number of a version, else the default one.")
    variables: dict[str, Any] | None = Field(
        None, description="Values of the variables: texts, or parts of a message."
    )


# ---------------------------------------------------------------- what stands in templates


def _require_message(kind: Any) -> Any:
    if isinstance(kind, str) and kind != "message":
        raise misfit("'{place}' can only be 'message' in a template.")
    return kind


def _require_tool(kind: Any) -> Any:
    if isinstance(kind, str) and len(kind) <= MAX_TYPE and kind not in _TOOLS:
        listed = ", ".join(_TOOLS)
        text = f"'{{place}}' can only be one of {listed} in a template; send other tools with the request."
        raise misfit(text, code="unsupported_parameter")
    return kind


class _Open(RequestModel):
    """An object whose other members are read elsewhere."""

    model_config = ConfigDict(extra="ignore")


class TemplateMessage(_Open):
    """A message in a template. An item without type and role would be a reference to a stored one."""

    type: Annotated[Literal["message"], BeforeValidator(_require_message)] = "message"
    role: Any


class TemplateTool(_Open):
    """A tool in a template: none that carries credentials."""

    type: Annotated[str, Field(max_length=MAX_TYPE), BeforeValidator(_require_tool)]


class TemplateMembers(RequestModel):
    """What a template may hold. It is read once more as the request that it will be part of."""

    instructions: Any = None
    input: list[TemplateMessage] | None = Field(None, max_length=1_000)
    model: Any = None
    tools: list[TemplateTool] = Field(default_factory=list, max_length=128)
    tool_choice: Any = None
    parallel_tool_calls: Any = None
    max_tool_calls: Any = None
    max_output_tokens: Any = None
    temperature: Any = None
    top_p: Any = None
    text: Any = None
    reasoning: Any = None
    truncation: Any = None

    @model_validator(mode="after")
    def _require_prompting(self) -> Self:
        if self.instructions is None and self.input is None:
            text = "'template' must hold 'instructions', 'input' or both."
            raise misfit(text, code="missing_required_parameter")
        return self
