"""`code_interpreter`: Python that runs in a container of the caller's, outside of this process."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final, cast

from regate_orchestrator.lineage import NOTHING_READ, Lineage
from regate_orchestrator.responses.arguments import text_among
from regate_orchestrator.responses.tools.passage import Passage
from regate_orchestrator.responses.tools.tool import (
    Notes,
    ServerTool,
    Surroundings,
    Told,
    ToolCall,
    ToolKind,
    ToolResult,
)
from regate_orchestrator.responses.tools.view import tool_view
from regate_orchestrator.responses.tools.wire import wire_function
from regate_orchestrator.values import FileId, Json, JsonObject

OUTPUTS: Final = "code_interpreter_call.outputs"
"""What of `include` asks for what the code wrote."""
MAX_CODE: Final = 100_000
_NAME: Final = "code_interpreter"
_RUNS_APART: Final[JsonObject] = {
    "read_only": True,
    "destructive": False,
    "idempotent": False,
    "open_world": True,
}
"""Nothing outside of its container is changed; what the container can reach is its server's to say."""
_FUNCTION: Final = wire_function(
    _NAME,
    "Run Python, as a cell of a notebook. Variables and files stay for later calls. The "
    "files of the conversation are in the working directory; files that are written there are given to "
    "the user.",
    code={"type": "string", "description": "The code."},
)


class _CodeInterpreter(ToolKind):
    type = _NAME
    item_type = "code_interpreter_call"
    id_prefix = "ci_"
    progress = "interpreting"
    is_announced_early = False
    reads_context = True
    notes = Notes(
        bad_arguments='The code did not run: its arguments must be a JSON object with a string "code".',
        denied="The code did not run: it is not permitted.",
        result_denied="The code ran, but what it wrote may not be used.",
        no_more="No further code can be run. Answer with what is known.",
    )

    def read(self, arguments: str) -> JsonObject | None:
        code = text_among(arguments, "code")
        return None if code is None or not code.strip() or len(code) > MAX_CODE else {"code": code}

    def item(self, call: ToolCall, status: str, result: ToolResult | None = None) -> JsonObject:
        tool = cast("CodeInterpreterTool", call.tool)
        return {
            "id": call.item_id,
            "type": self.item_type,
            "status": status,
            "code": (call.arguments or {}).get("code", ""),
            "container_id": tool.container,
            "outputs": None if result is None else _outputs(result.shown),
        }

    def shown(self, item: JsonObject, passages: Sequence[Passage], include: Collection[str]) -> JsonObject:
        return item if OUTPUTS in include else {**item, "outputs": None}

    def called(self, item: JsonObject) -> tuple[str, Mapping[str, Json]]:
        return _NAME, {"code": item["code"]}

    def view(self, item: JsonObject) -> JsonObject:
        return _view()

    def told(self, item: JsonObject) -> Told:
        code = item["code"]
        return (
            ("code_interpreter_call_code.delta", {"delta": code}),
            ("code_interpreter_call_code.done", {"code": code}),
        )

    def failed(self, text: str) -> JsonObject:
        return {"logs": text}

    def answer(self, item: JsonObject) -> str:
        outputs = cast("Sequence[JsonObject]", item.get("outputs") or ())
        return "\n".join(str(one["logs"]) for one in outputs if one["type"] == "logs") or NO_OUTPUT

    def empty(self, item: JsonObject) -> JsonObject:
        return {**item, "code": "", "outputs": None}


NO_OUTPUT: Final = "The code wrote nothing."
CODE_INTERPRETER: Final[ToolKind] = _CodeInterpreter()


@dataclass(frozen=True, slots=True)
class CodeInterpreterTool(ServerTool):
    """The tool as a request offers it. `lineage` is what the code of a call may rest on."""

    echo: JsonObject
    container: str
    is_new: bool
    """Whether the container is made at the first call; else it must be there."""
    files: tuple[FileId, ...] = ()
    lineage: Lineage = NOTHING_READ
    kind: ClassVar[ToolKind] = CODE_INTERPRETER

    @property
    def functions(self) -> Mapping[str, JsonObject]:
        """The one function that a model is offered."""
        return {_NAME: _FUNCTION}

    def called(self, name: str) -> JsonObject:
        """Return the tool as policies see it."""
        return _view()

    def view(self, arguments: JsonObject) -> JsonObject:
        """Return the arguments as policies see them: the code by its length, never its text."""
        return {"code_length": len(str(arguments.get("code", ""))), "file_ids": list(self.files)}

    def within(self, surroundings: Surroundings) -> CodeInterpreterTool:
        """Return the tool with what the code of a call may rest on."""
        return replace(self, lineage=surroundings.lineage)


def _view() -> JsonObject:
    return tool_view(_NAME, _NAME, annotations=_RUNS_APART)


def _outputs(shown: JsonObject) -> Json:
    logs = shown.get("logs")
    written: list[Json] = [] if not logs else [{"type": "logs", "logs": logs}]
    images = cast("Sequence[Json]", shown.get("images", ()))
    return [*written, *({"type": "image", "url": url} for url in images)]
