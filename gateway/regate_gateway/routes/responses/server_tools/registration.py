"""What a kind of tools that run here registers, and what its runner is made with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from regate_gateway.http.models import RequestModel
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.ports.mcp import McpServers
from regate_orchestrator.responses.tools.calls import ToolLister, ToolRunner
from regate_orchestrator.responses.tools.kinds.code_runner import CodeRunning
from regate_orchestrator.responses.tools.kinds.image_runner import Imaging
from regate_orchestrator.responses.tools.kinds.web_search_runner import Web
from regate_orchestrator.responses.tools.tool import ServerTool, ToolKind
from regate_orchestrator.retrieval.search import Retrieval
from regate_orchestrator.values import JsonObject


@dataclass(frozen=True, slots=True)
class RunnerParts:
    """What runners are made with."""

    enforcer: Enforcer
    retrieval: Retrieval
    mcp: McpServers | None = None
    web: Web | None = None
    code: CodeRunning | None = None
    imaging: Imaging | None = None


@dataclass(frozen=True, slots=True)
class Registration:
    """A kind of tools that run here. `types` are the types by which requests name it.

    `take_over` is told the tool as it was read, its place in the request, and the tools before it; it raises
    `InvalidRequest`. A `lister` lists what a tool offers whose functions a request does not name.
    """

    kind: ToolKind
    model: type[RequestModel]
    take_over: Callable[[Any, str, Sequence[ServerTool]], ServerTool]
    runner: Callable[[RunnerParts], ToolRunner]
    item_model: type[RequestModel]
    item: Callable[[Any], JsonObject]
    """Takes over the item of a call that a client sends: with an id of ours, and nothing that only this
    gateway could know.
    """
    lister: Callable[[RunnerParts], ToolLister] | None = None
    types: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    """What of `include` asks for parts of its items."""
    section: str = ""
    """The section of the settings, below `tools`, that sets the tool up; empty where none need be."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the types by which requests name the kind."""
        return self.types or (self.kind.type,)
