"""Runs `image_generation`: has the image made, and kept as a file of the caller."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.documents.file_text import image_type
from regate_orchestrator.documents.made_files import MadeFiles
from regate_orchestrator.documents.visible_text import visible_text
from regate_orchestrator.errors import NotPermitted, TooLarge
from regate_orchestrator.lineage import FileSource
from regate_orchestrator.ports import ImageFailed, ImageMaker
from regate_orchestrator.responses.tools.calls import failure
from regate_orchestrator.responses.tools.kinds.image_generation import MADE, ImageTool
from regate_orchestrator.responses.tools.tool import ToolCall, ToolResult
from regate_orchestrator.retrieval.stores import OpenStore
from regate_orchestrator.values import JsonObject, StoreId

NOT_MADE: Final = "The image could not be made."
TOO_LARGE: Final = "The image is larger than it may be."
NOT_KEPT: Final = (
    "The image could not be kept: the policy does not permit the file, or there is no room for it."
)


@dataclass(frozen=True, slots=True)
class Imaging:
    """What makes images, and what keeps them."""

    maker: ImageMaker
    made: MadeFiles


@dataclass(frozen=True, slots=True)
class ImageRunner:
    """Has images made for the loop; none, where no upstream is configured for it."""

    imaging: Imaging | None

    async def run(self, context: Context, call: ToolCall, stores: Mapping[StoreId, OpenStore]) -> ToolResult:
        """Return the image, resting on the file that it became."""
        if self.imaging is None:
            return failure(call, NOT_MADE)
        tool, prompt = cast("ImageTool", call.tool), cast("str", (call.arguments or {})["prompt"])
        try:
            image = await self.imaging.maker.make(prompt, tool.options)
        except ImageFailed as failed:
            return failure(call, str(failed))
        mime = image_type(image.data)
        if mime is None:
            return failure(call, NOT_MADE)
        if len(image.data) > call.terms.max_result_bytes:
            return failure(call, TOO_LARGE)  # before it is kept: it could not be used
        name = f"{call.item_id}.{mime.partition('/')[2]}"
        try:
            row = await self.imaging.made.keep(context, image.data, filename=name, labels=tool.lineage.labels)
        except (NotPermitted, TooLarge):
            return failure(call, NOT_KEPT)
        shown: JsonObject = {
            "result": base64.b64encode(image.data).decode("ascii"),
            "revised_prompt": visible_text(image.revised_prompt),
        }
        return ToolResult(
            size=len(image.data),
            mime=mime,
            text=f"{MADE} It is the file {row.id}.",
            shown=shown,
            rests_on=(FileSource(row.id, row.stamp),),
            call={"file": row.id},
        )
