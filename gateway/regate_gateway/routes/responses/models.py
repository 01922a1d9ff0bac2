"""What requests to `/v1/responses` may hold. How they are taken over is `request.py`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, Tag, model_validator

from regate_gateway.http.misfits import misfit
from regate_gateway.http.models import TEXT_OR_OBJECT, Id, Metadata, RequestModel
from regate_gateway.routes.json_schemas import ContainedSchema
from regate_gateway.routes.prompts.models import PromptUse
from regate_gateway.routes.responses.client_tools import MAX_TOOLS
from regate_gateway.routes.responses.include import Included
from regate_gateway.routes.responses.item_models import Input
from regate_gateway.routes.responses.part_models import LONGEST
from regate_gateway.routes.responses.tool_models import Tool, ToolChoice

ServiceTier = Literal[
    "auto", "default", "flex", "scale", "priority", "fast", "ultrafast", "on_demand", "performance"
]
"""OpenAI's, and the last two Groq's."""
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
CacheRetention = Literal["in_memory", "in-memory", "24h"]
_Summary = Literal["auto", "concise", "detailed"]


# ---------------------------------------------------------------- options


class StreamOptions(RequestModel):
    """How a stream is written."""

    include_obfuscation: bool = Field(True, description="Pad the events, so that sizes tell less.")


class BackgroundOptions(RequestModel):
    """When a background response is made."""

    unsupported: ClassVar = ("continuation_id",)

    completion_window: Literal["soonest"] = Field("soonest", description="There is no other.")


class CacheOptions(RequestModel):
    """A hint about a cache that is the upstream's: only what could be asked of any is taken."""

    unsupported: ClassVar = ("comparison_response_id", "prewarm")

    mode: Literal["implicit"] = Field("implicit", description="There is no other.")
    ttl: Literal["30m", "12h"] = Field("30m", description="How long what is cached stays.")


class Compacting(RequestModel):
    """When what came before is summarised."""

    type: Literal["compaction"]
    compact_threshold: int = Field(
        100_000, ge=1_000, le=100_000_000, description="The size of the context, in tokens."
    )


class TextFormat(RequestModel):
    """What an answer's text is."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = Field(None, max_length=64, description="The name of the schema.")
    description: str | None = Field(None, max_length=LONGEST, description="What the model is told of it.")
    schema_: ContainedSchema | None = Field(None, alias="schema")
    strict: bool = Field(False, description="Whether the text must fit the schema.")

    @model_validator(mode="after")
    def _require_schema(self) -> Self:
        for member, value in (("name", self.name), ("schema", self.schema_)):
            if self.type == "json_schema" and value is None:
                text = "Missing required parameter: '{place}'."
                raise misfit(text, code="missing_required_parameter", member=member)
        return self


class TextOptions(RequestModel):
    """How an answer is written."""

    verbosity: Literal["low", "medium", "high"] = "medium"
    format: TextFormat | None = None


class ReasoningOptions(RequestModel):
    """How a model reasons."""

    effort: Effort | None = None
    summary: _Summary | None = Field(None, description="Show the reasoning as a summary.")
    generate_summary: _Summary | None = Field(None, description="The older name of `summary`.")
    mode: Literal["standard"] | None = Field(None, description="There is no other.")
    context: Literal["auto", "current_turn", "all_turns"] | None = Field(
        None, description="`current_turn` sends no earlier reasoning back."
    )

    @property
    def wanted_summary(self) -> str | None:
        """Return which summary is wanted, under either name."""
        return self.summary or self.generate_summary


class ConversationNamed(RequestModel):
    """A conversation by its id."""

    id: Id


# ---------------------------------------------------------------- bodies


class _Context(RequestModel):
    model: str = Field(max_length=256, description="The model. A prompt may name it instead.")
    input: Input | None = Field(None, description="A text, or items.")
    instructions: str | None = Field(None, max_length=LONGEST, description="For this turn alone.")
    previous_response_id: Id | None = Field(None, description="Not together with `conversation`.")


class _Caching(RequestModel):
    service_tier: ServiceTier | None = Field(
        None, description="Told to upstreams that have tiers; else the answer is of `default`."
    )
    prompt_cache_key: str | None = Field(None, max_length=512, description="Repeated.")
    prompt_cache_retention: CacheRetention | None = Field(None, description="Repeated.")
    prompt_cache_options: CacheOptions | None = None


class CompactRequest(_Context, _Caching):
    """A conversation that is to be summarised."""


class MeasureRequest(_Context):
    """A request whose tokens are to be estimated."""

    conversation: (
        Annotated[
            Annotated[Id, Tag("(text)")] | Annotated[ConversationNamed, Tag("(object)")], TEXT_OR_OBJECT
        ]
        | None
    ) = Field(None, description="The conversation that the turn continues.")
    tools: list[Tool] = Field(default_factory=list, max_length=MAX_TOOLS, description="What may be called.")
    tool_choice: ToolChoice = Field("auto", description="Which tools may or must be called.")
    parallel_tool_calls: bool = Field(True, description="Whether several may be called at once.")
    truncation: Literal["auto", "disabled"] = Field(
        "disabled", description="`auto` drops the oldest turns where the context is too long."
    )
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None


class CreateResponse(MeasureRequest, _Caching):
    """A response that is to be made."""

    unsupported: ClassVar = ("moderation", "access_programs", "image")

    prompt: PromptUse | None = None
    store: bool = Field(True, description="Whether the response is kept.")
    stream: bool = Field(False, description="Send the events as they come.")
    stream_options: StreamOptions | None = None
    background: bool = Field(False, description="Needs `store`.")
    background_options: BackgroundOptions | None = None
    include: Included = Field(default_factory=list)
    max_tool_calls: int | None = Field(None, ge=1, le=1_000, description="How often tools run here.")
    max_output_tokens: int | None = Field(None, ge=16, le=10_000_000, description="With reasoning.")
    context_management: list[Compacting] = Field(default_factory=list, max_length=8)
    temperature: float | None = Field(None, ge=0.0, le=2.0)
    top_p: float | None = Field(None, ge=0.0, le=1.0)
    presence_penalty: float | None = Field(None, ge=-2.0, le=2.0)
    frequency_penalty: float | None = Field(None, ge=-2.0, le=2.0)
    top_logprobs: int | None = Field(None, ge=0, le=20, description="How many other tokens are shown.")
    metadata: Metadata = Field(default_factory=dict)
    user: str | None = Field(None, max_length=512, description="Repeated.")
    safety_identifier: str | None = Field(None, max_length=512, description="Repeated.")
    client_metadata: dict[str, Any] | None = Field(None, description="Not kept.")

    @model_validator(mode="after")
    def _require_agreement(self) -> Self:
        if self.background and not self.store:
            text = "'background' needs 'store': what runs on has to be kept somewhere."
            raise misfit(text, member="background")
        if self.previous_response_id is not None and self.conversation is not None:
            text = (
                "'previous_response_id' and 'conversation' cannot be used together: each says what came "
                "before."
            )
            raise misfit(text, code="mutually_exclusive_parameters", member="conversation")
        if self.conversation is not None and not self.store:
            raise misfit(
                "'conversation' needs 'store': the turn is kept in the conversation.", member="store"
            )
        return self._with_input()

    def _with_input(self) -> Self:
        continues = (self.previous_response_id, self.conversation, self.prompt) != (None, None, None)
        if self.input is None and not continues:
            text = "Missing required parameter: 'input'."
            raise misfit(text, code="missing_required_parameter", member="input")
        if self.input == [] and not continues:
            raise misfit("'input' must hold at least one item.", member="input")
        return self


class WarmUp(RequestModel):
    """What a frame of a WebSocket says that no other request does."""

    unsupported: ClassVar = ("background",)
    declined: ClassVar = False

    generate: bool = True
