"""Events: what has happened, in past participles, told to the machine. Their counterpart is
`commands.py`; each reply names its command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from regate_orchestrator.errors import RegateError
from regate_orchestrator.lineage import Lineage, SourceKey, ToolSource
from regate_orchestrator.model_events import ModelEvent
from regate_orchestrator.responses.prompt import PromptItem
from regate_orchestrator.responses.request import Limits, ResponseRequest
from regate_orchestrator.responses.tools.tool import ApprovedCall, ServerTool, Terms, ToolResult
from regate_orchestrator.rows import ItemWithParent, StoredItem
from regate_orchestrator.upstream_capabilities import UpstreamCapabilities
from regate_orchestrator.values import JsonObject, ResponseId


@dataclass(frozen=True, slots=True)
class Requested:
    """A client asked for a response. The first event of every run."""

    request: ResponseRequest
    response_id: ResponseId
    tenant: str
    owner: str


@dataclass(frozen=True, slots=True)
class Recalled:
    """What came before was found (answers `Recall`). Nothing of it is decided yet.

    `earlier` are the items of the chain or the conversation, oldest first; `status` is that of the response
    continued from; `referenced` are the items that the request names by id.
    """

    earlier: tuple[ItemWithParent, ...] = ()
    status: str | None = None
    referenced: Mapping[str, ItemWithParent] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QuotaGranted:
    """What the caller may spend was decided (while `AuthorizeTurn` is): the request and the loop's
    limits are narrowed to it.
    """

    request: ResponseRequest
    limits: Limits


@dataclass(frozen=True, slots=True)
class TurnAuthorized:
    """Route, model, stores, files and history were decided (answers `AuthorizeTurn`).

    `history` is what may be used again and `sent` what the client sends now, both ready for a prompt;
    `inputs` is the latter as it is stored. `hidden` are the tools, by wire name, that the policy does not let
    the model see.
    """

    upstream: str
    revision: str
    history: tuple[PromptItem, ...]
    sent: tuple[PromptItem, ...]
    inputs: tuple[StoredItem, ...]
    lineage: Lineage
    hidden: frozenset[str] = frozenset()
    capabilities: UpstreamCapabilities = field(default_factory=UpstreamCapabilities)
    """What the upstream takes."""
    alternates: tuple[str, ...] = ()
    """Upstreams that may be asked while the first cannot be reached."""
    trace: tuple[JsonObject, ...] = ()
    """The calls of tools that what came before rests on, as policies see them."""
    approvals: tuple[ApprovedCall, ...] = ()
    """The calls that the client approved."""
    max_output_tokens: int | None = None
    """The most that policy lets the answer be, whatever the client asked for."""


@dataclass(frozen=True, slots=True)
class ContextDecided:
    """What is in the context was decided again (answers `DecideContext`): these items and sources may
    not be used any more.
    """

    denied_items: frozenset[str] = frozenset()
    denied: frozenset[SourceKey] = frozenset()


@dataclass(frozen=True, slots=True)
class ModelOpened:
    """The upstream accepted the call (answers `CallModel`): from here on a failure is told in the stream."""


@dataclass(frozen=True, slots=True)
class ToolsListed:
    """What tools offer was listed (answers `ListTools`): the tools, the items that tell of it, and which of
    their functions the policy does not let the model see.
    """

    tools: tuple[ServerTool, ...]
    items: tuple[JsonObject, ...] = ()
    hidden: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ToolDecided:
    """The tool call was decided (answers `DecideTool`), on these terms where it is permitted.

    `arguments` are those with which it runs, where a policy wants others than the model wrote. Where approval
    is needed, `approval` is the id by which it was asked for.
    """

    call_id: str
    verdict: Literal["allow", "needs_approval", "deny"]
    terms: Terms = field(default_factory=Terms)
    arguments: JsonObject | None = None
    approval: str = ""
    written: str | None = None
    """The arguments as guards left them of what the model wrote."""


@dataclass(frozen=True, slots=True)
class ToolRan:
    """The call ended (answers `RunTool`). `result` is None when what it found may not be used; `made` tells
    then that the call was made all the same, at a server.
    """

    call_id: str
    result: ToolResult | None
    made: ToolSource | None = None


@dataclass(frozen=True, slots=True)
class Saved:
    """The row is durable (answers `Save`)."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A command failed, for a reason that is the caller's, a dependency's or the backend's. Ends the run."""

    error: RegateError


@dataclass(frozen=True, slots=True)
class ClientLeft:
    """The client went away, or the gateway is shutting down. Ends the run."""


Decided: TypeAlias = QuotaGranted | TurnAuthorized | ContextDecided | ToolsListed | ToolDecided
Event: TypeAlias = (
    ModelEvent | Requested | Recalled | Decided | ModelOpened | ToolRan | Saved | Failed | ClientLeft
)
