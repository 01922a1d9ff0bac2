"""`code_interpreter` at the edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, Tag

from regate_gateway.http.models import TEXT_OR_OBJECT, Id, RequestModel
from regate_gateway.routes.responses.part_models import Item, Text
from regate_gateway.routes.responses.server_tools.registration import Registration
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.responses.tools.kinds.code_interpreter import (
    CODE_INTERPRETER,
    OUTPUTS,
    CodeInterpreterTool,
)
from regate_orchestrator.responses.tools.kinds.code_runner import CodeRunner
from regate_orchestrator.responses.tools.tool import ServerTool
from regate_orchestrator.values import FileId, Json, JsonObject, mint

_CONTAINER: Final = "cntr_"


class AutoContainer(RequestModel):
    """A new container."""

    unsupported: ClassVar = ("memory_limit", "network_policy")

    type: Literal["auto"]
    file_ids: list[Id] = Field(default_factory=list, max_length=20, description="Files that are put there.")


class CodeTool(RequestModel):
    """Python that runs in a container."""

    unsupported: ClassVar = ("allowed_callers",)

    type: Literal["code_interpreter"]
    container: Annotated[
        Annotated[Id, Tag("(text)")] | Annotated[AutoContainer, Tag("(object)")], TEXT_OR_OBJECT
    ] = Field(description="A new container, or the id of one of yours that is there still.")


class CodeInterpreterCall(Item):
    """Code of an earlier turn. What a client says it wrote is no evidence, and is not taken over."""

    type: Literal["code_interpreter_call"]
    code: Text | None = Field(None, description="The code.")
    container_id: Id | None = Field(None, description="Where it ran.")
    outputs: Any = Field(None, description="Not taken over.")


def _item(call: CodeInterpreterCall) -> JsonObject:
    return {
        "id": mint(CODE_INTERPRETER.id_prefix),
        "type": call.type,
        "status": "completed",
        "code": call.code or "",
        "container_id": call.container_id or "",
        "outputs": None,
    }


def _take_over(tool: CodeTool, path: str, others: Sequence[ServerTool]) -> CodeInterpreterTool:
    if any(other.kind is CODE_INTERPRETER for other in others):
        raise InvalidRequest("Only one 'code_interpreter' tool is allowed.", param=f"{path}.type")
    named = tool.container
    echo: dict[str, Json] = {"type": tool.type}
    if isinstance(named, str):
        return CodeInterpreterTool({**echo, "container": named}, named, is_new=False)
    return CodeInterpreterTool(
        {**echo, "container": {"type": "auto", "file_ids": list(named.file_ids)}},
        mint(_CONTAINER),
        is_new=True,
        files=tuple(map(FileId, named.file_ids)),
    )


REGISTRATION: Final = Registration(
    kind=CODE_INTERPRETER,
    model=CodeTool,
    take_over=_take_over,
    runner=lambda parts: CodeRunner(parts.code),
    item_model=CodeInterpreterCall,
    item=_item,
    includes=(OUTPUTS,),
    section="code_interpreter",
)
