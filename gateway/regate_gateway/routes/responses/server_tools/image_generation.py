"""`image_generation` at the edge."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, Field

from regate_gateway.http.misfits import misfit
from regate_gateway.http.models import RequestModel
from regate_gateway.routes.responses.part_models import Item, Text
from regate_gateway.routes.responses.server_tools.registration import Registration
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.responses.tools.kinds.image_generation import (
    IMAGE_GENERATION,
    MAX_PROMPT,
    ImageTool,
)
from regate_orchestrator.responses.tools.kinds.image_runner import ImageRunner
from regate_orchestrator.responses.tools.tool import ServerTool
from regate_orchestrator.values import Json, JsonObject, mint

_OPTIONS: Final = ("size", "quality", "background", "output_format", "output_compression", "moderation")
_SIZE: Final = re.compile(r"auto|[1-9][0-9]{1,4}x[1-9][0-9]{1,4}")


def _require_size(text: str) -> str:
    if not _SIZE.fullmatch(text):
        raise misfit("'{place}' must be 'auto', or a width and a height such as '1024x1024'.")
    return text


Size = Annotated[str, Field(max_length=20), AfterValidator(_require_size)]


class ImageGenerationTool(RequestModel):
    """Images that an upstream makes. Which model makes them is the operator's to say."""

    unsupported: ClassVar = (
        *("model", "input_fidelity", "input_image_mask"),
        *("complexity", "frame_count", "frame_duration_ms"),
    )

    type: Literal["image_generation"]
    action: Literal["generate", "auto"] = Field("auto", description="Images are made, and not changed.")
    size: Size | None = Field(None, description="`auto`, or width and height as `1024x1024`.")
    quality: Literal["low", "medium", "high", "xhigh", "max", "auto"] | None = Field(
        None, description="The quality."
    )
    background: Literal["transparent", "opaque", "auto"] | None = Field(None, description="The background.")
    output_format: Literal["png", "webp", "jpeg"] | None = Field(None, description="The format.")
    output_compression: int | None = Field(None, ge=0, le=100, description="How much it is compressed.")
    moderation: Literal["auto", "low"] | None = Field(None, description="How strictly it is moderated.")
    partial_images: int = Field(0, ge=0, le=3, description="The most partial images; none are sent here.")


class ImageGenerationCall(Item):
    """An image of an earlier turn. It is not taken over: send it as an image."""

    type: Literal["image_generation_call"]
    result: Any = Field(None, description="Not taken over.")
    revised_prompt: Annotated[Text, Field(max_length=MAX_PROMPT)] | None = Field(
        None, description="What it shows."
    )


def _item(call: ImageGenerationCall) -> JsonObject:
    said: JsonObject = {"status": "completed", "result": None, "revised_prompt": call.revised_prompt or ""}
    return {"id": mint(IMAGE_GENERATION.id_prefix), "type": call.type, **said}


def _take_over(tool: ImageGenerationTool, path: str, others: Sequence[ServerTool]) -> ImageTool:
    if any(other.kind is IMAGE_GENERATION for other in others):
        raise InvalidRequest("Only one 'image_generation' tool is allowed.", param=f"{path}.type")
    options: dict[str, Json] = {
        name: value for name in _OPTIONS if (value := getattr(tool, name)) is not None
    }
    echo: dict[str, Json] = {"type": tool.type, "action": tool.action, **options}
    return ImageTool(echo | {"partial_images": tool.partial_images}, options)


REGISTRATION: Final = Registration(
    kind=IMAGE_GENERATION,
    model=ImageGenerationTool,
    take_over=_take_over,
    runner=lambda parts: ImageRunner(parts.imaging),
    item_model=ImageGenerationCall,
    item=_item,
    section="image_generation",
)
