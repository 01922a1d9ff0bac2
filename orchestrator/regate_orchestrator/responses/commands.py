"""Commands: what the driver must do next. Their counterpart is `events.py`: each command names the
event that answers it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from regate_orchestrator.errors import RegateError
from regate_orchestrator.lineage import Lineage
from regate_orchestrator.responses.events import Recalled
from regate_orchestrator.responses.request import ResponseRequest
from regate_orchestrator.responses.tools.tool import ServerTool, ToolCall
from regate_orchestrator.rows import ResponseRow
from regate_orchestrator.values import JsonObject


@dataclass(frozen=True, slots=True)
class Recall:
    """Fetch what the request continues from and refers to. A conversation is held for this response until it
    ends.

    Answered by `Recalled` or `Failed`.
    """

    request: ResponseRequest


@dataclass(frozen=True, slots=True)
class AuthorizeTurn:
    """Decide the route and model, the tools, stores and files, and every stored item to be reused.

    Answered by `TurnAuthorized` or `Failed`.
    """

    request: ResponseRequest
    recalled: Recalled


@dataclass(frozen=True, slots=True)
class DecideContext:
    """Decide again all that the turn was authorized with, and these sources, before it goes to the model once
    more.

    Answered by `ContextDecided`, or by `Failed` where the policy wants nothing used of a context that
    something is withheld from.
    """

    lineage: Lineage


@dataclass(frozen=True, slots=True)
class CallModel:
    """Open a model turn. Answered by `ModelOpened` and the model's events, the last being
    `ModelEnded`, `ModelFailed` or `Failed`.
    """

    upstream: str
    payload: JsonObject
    alternates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ListTools:
    """List what these tools offer. Answered by `ToolsListed` or `Failed`."""

    tools: tuple[ServerTool, ...]


@dataclass(frozen=True, slots=True)
class DecideTool:
    """Decide whether this call may run with its arguments, and on which terms. Calls of one turn are decided
    at the same time.

    `trace` are the calls before it, and `labels` those of all that is in the context. Answered by
    `ToolDecided`, in the order of the calls, or `Failed`.
    """

    call: ToolCall
    calls_so_far: int
    round: int
    trace: tuple[JsonObject, ...] = ()
    labels: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RunTool:
    """Run the call, which was permitted. Calls of one turn run at the same time.

    Answered by `ToolRan`, in the order of the calls, or `Failed`.
    """

    call: ToolCall


@dataclass(frozen=True, slots=True)
class Save:
    """Store this state of the response, durably, before anything that follows. Answered by `Saved` or
    `Failed`.
    """

    row: ResponseRow


@dataclass(frozen=True, slots=True)
class Emit:
    """Send this event to the client. Not answered."""

    event: JsonObject


@dataclass(frozen=True, slots=True)
class Finish:
    """The response has ended so; `error` is set when it failed, and `row` is what is, or would be,
    stored. Not answered; always the last.
    """

    response: JsonObject
    row: ResponseRow
    error: RegateError | None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nothing was begun: answer the request with this error. Not answered; always the last command."""

    error: RegateError


Command: TypeAlias = (
    Recall
    | AuthorizeTurn
    | ListTools
    | DecideContext
    | CallModel
    | DecideTool
    | RunTool
    | Save
    | Emit
    | Finish
    | Refuse
)
