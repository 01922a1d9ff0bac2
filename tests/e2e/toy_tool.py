"""A kind of tools of the tests' own, in one module: `echo_tool` says again what it was told."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal
from unittest.mock import patch

from regate_gateway.http.models import RequestModel
from regate_gateway.routes.responses.part_models import Item, Text
from regate_gateway.routes.responses.server_tools.registration import Registration
from regate_gateway.routes.responses.server_tools.registry import ITEMS, REGISTERED, register
from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.responses.arguments import text_among
from regate_orchestrator.responses.tools.kinds.table import KINDS
from regate_orchestrator.responses.tools.passage import Passage
from regate_orchestrator.responses.tools.tool import Notes, ServerTool, Told, ToolCall, ToolKind, ToolResult
from regate_orchestrator.retrieval.stores import OpenStore
from regate_orchestrator.values import Json, JsonObject, StoreId, mint

NAME: Final = "echo_tool"
LENGTH: Final = "echo_tool_call.length"
"""What of `include` asks for the length of what was said."""


class _Echo(ToolKind):
    type = NAME
    item_type = "echo_tool_call"
    id_prefix = "echo_"
    progress = "echoing"
    notes = Notes(
        bad_arguments='The echo did not sound: its arguments must be a JSON object with a string "said".',
        denied="The echo did not sound: it is not permitted.",
        result_denied="The echo sounded, but may not be heard.",
        no_more="No further echo is possible.",
    )

    def read(self, arguments: str) -> JsonObject | None:
        said = text_among(arguments, "said")
        return None if said is None else {"said": said}

    def item(self, call: ToolCall, status: str, result: ToolResult | None = None) -> JsonObject:
        said = "" if call.arguments is None else call.arguments["said"]
        item: JsonObject = {"id": call.item_id, "type": self.item_type, "status": status, "said": said}
        heard: JsonObject = {"output": None} if result is None else result.shown
        return {**item, "output": None, **heard}

    def called(self, item: JsonObject) -> tuple[str, Mapping[str, Json]]:
        return NAME, {"said": item["said"]}

    def told(self, item: JsonObject) -> Told:
        return (("echo_tool_call.said", {"said": item["said"]}),)

    def shown(self, item: JsonObject, passages: Sequence[Passage], include: Collection[str]) -> JsonObject:
        return {**item, "length": len(str(item["said"]))} if LENGTH in include else item

    def answer(self, item: JsonObject) -> str:
        return str(item["output"] or "")

    def empty(self, item: JsonObject) -> JsonObject:
        return {**item, "said": "", "output": None}


ECHO: Final[ToolKind] = _Echo()


@dataclass(frozen=True, slots=True)
class EchoTool(ServerTool):
    """The tool as a request offers it, with how often it says things."""

    times: int
    echo: JsonObject
    kind: ClassVar[ToolKind] = ECHO

    @property
    def functions(self) -> Mapping[str, JsonObject]:
        """The one function that a model is offered."""
        said: JsonObject = {"said": {"type": "string"}}
        parameters: JsonObject = {"type": "object", "properties": said, "required": ["said"]}
        return {NAME: {"type": "function", "function": {"name": NAME, "parameters": parameters}}}


class EchoRunner:
    """Says things again."""

    async def run(self, context: Context, call: ToolCall, stores: Mapping[StoreId, OpenStore]) -> ToolResult:
        """Return what was said."""
        assert isinstance(call.tool, EchoTool)
        text = " ".join([str((call.arguments or {})["said"])] * call.tool.times)
        return ToolResult(size=len(text.encode()), text=text, shown={"output": text})


class EchoTools(RequestModel):
    """What a request may say of the tool."""

    type: Literal["echo_tool"]
    times: int = 1


class EchoCall(Item):
    """A call of an earlier turn."""

    type: Literal["echo_tool_call"]
    said: Text
    output: Text | None = None


def _take_over(tool: EchoTools, path: str, others: Sequence[ServerTool]) -> EchoTool:
    return EchoTool(tool.times, {"type": tool.type, "times": tool.times})


def _item(call: EchoCall) -> JsonObject:
    sent: dict[str, Any] = {"type": call.type, "said": call.said, "output": call.output}
    return {"id": mint(ECHO.id_prefix), "status": "completed", **sent}


REGISTRATION: Final = Registration(
    kind=ECHO,
    model=EchoTools,
    take_over=_take_over,
    runner=lambda parts: EchoRunner(),
    item_model=EchoCall,
    item=_item,
    includes=(LENGTH,),
)


@contextmanager
def registered() -> Iterator[None]:
    """Have the kind be known for as long as this is entered."""
    with patch.dict(KINDS), patch.dict(ITEMS), patch.dict(REGISTERED):
        register(REGISTRATION)
        yield
