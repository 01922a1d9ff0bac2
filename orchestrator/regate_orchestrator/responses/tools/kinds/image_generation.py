"""`image_generation`: an image that an upstream makes of the model's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final

from regate_orchestrator.lineage import NOTHING_READ, Lineage
from regate_orchestrator.responses.arguments import text_among
from regate_orchestrator.responses.tools.tool import (
    Notes,
    ServerTool,
    Surroundings,
    ToolCall,
    ToolKind,
    ToolResult,
)
from regate_orchestrator.responses.tools.view import tool_view
from regate_orchestrator.responses.tools.wire import wire_function
from regate_orchestrator.values import Json, JsonObject

MAX_PROMPT: Final = 32_000
MADE: Final = "The image was made, and the user sees it."
_NAME: Final = "image_generation"
_MAKES_A_FILE: Final[JsonObject] = {
    "read_only": True,
    "destructive": False,
    "idempotent": False,
    "open_world": False,
}
"""It adds a file of the caller's, which is decided as such, and changes nothing else."""
_FUNCTION: Final = wire_function(
    _NAME,
    "Make an image and show it to the user.",
    prompt={"type": "string", "description": "What the image shows, in detail."},
)


class _ImageGeneration(ToolKind):
    type = _NAME
    item_type = "image_generation_call"
    id_prefix = "ig_"
    progress = "generating"
    is_announced_early = False
    reads_context = True
    notes = Notes(
        bad_arguments='No image was made: the arguments must be a JSON object with a string "prompt".',
        denied="No image was made: it is not permitted.",
        result_denied="An image was made, but it may not be used.",
        no_more="No further image can be made. Answer with what there is.",
    )

    def read(self, arguments: str) -> JsonObject | None:
        prompt = text_among(arguments, "prompt")
        return {"prompt": prompt} if prompt and prompt.strip() and len(prompt) <= MAX_PROMPT else None

    def item(self, call: ToolCall, status: str, result: ToolResult | None = None) -> JsonObject:
        shown = {} if result is None else result.shown
        return {
            "id": call.item_id,
            "type": self.item_type,
            "status": "failed" if status == "incomplete" else status,
            "result": shown.get("result"),
            "revised_prompt": shown.get("revised_prompt") or (call.arguments or {}).get("prompt", ""),
        }

    def called(self, item: JsonObject) -> tuple[str, Mapping[str, Json]]:
        return _NAME, {"prompt": item.get("revised_prompt") or ""}

    def view(self, item: JsonObject) -> JsonObject:
        return _view()

    def answer(self, item: JsonObject) -> str:
        return MADE if item["status"] == "completed" else "No image was made."

    def empty(self, item: JsonObject) -> JsonObject:
        return {**item, "result": None, "revised_prompt": ""}


IMAGE_GENERATION: Final[ToolKind] = _ImageGeneration()


@dataclass(frozen=True, slots=True)
class ImageTool(ServerTool):
    """The tool as a request offers it. `options` go to the upstream; `lineage` is what a prompt may rest
    on.
    """

    echo: JsonObject
    options: JsonObject = field(default_factory=dict)
    lineage: Lineage = NOTHING_READ
    kind: ClassVar[ToolKind] = IMAGE_GENERATION

    @property
    def functions(self) -> Mapping[str, JsonObject]:
        """The one function that a model is offered."""
        return {_NAME: _FUNCTION}

    def called(self, name: str) -> JsonObject:
        """Return the tool as policies see it."""
        return _view()

    def view(self, arguments: JsonObject) -> JsonObject:
        """Return the arguments as policies see them: the prompt by its length, and the client's options."""
        return {"prompt_length": len(str(arguments.get("prompt", ""))), **self.options}

    def within(self, surroundings: Surroundings) -> ImageTool:
        """Return the tool with what the prompt of a call may rest on."""
        return replace(self, lineage=surroundings.lineage)


def _view() -> JsonObject:
    return tool_view(_NAME, _NAME, annotations=_MAKES_A_FILE)
