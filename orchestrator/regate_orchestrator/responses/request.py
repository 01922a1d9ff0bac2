"""What a client asked for with `POST /v1/responses`, checked and typed. The edge reads it; nothing
here parses JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, cast

from regate_orchestrator.responses.client_tools.functions import FUNCTION
from regate_orchestrator.responses.client_tools.kind import ClientKind
from regate_orchestrator.responses.tools.tool import ServerTool
from regate_orchestrator.responses.tools.wire import wire_name
from regate_orchestrator.values import ConversationId, Json, JsonObject, ResponseId

_TIER: Final = "service_tier"


@dataclass(frozen=True, slots=True)
class ClientTool:
    """A tool that the client runs itself: one that it describes, or one of a kind that is known here.

    `namespace` groups tools whose names need be unique only within it; backends know no such groups, so they
    are told `wire`.
    """

    name: str
    description: str | None
    parameters: JsonObject | None
    strict: bool | None
    kind: ClientKind = FUNCTION
    namespace: str | None = None
    is_deferred: bool = False
    """Whether it is offered once a search found it."""

    @property
    def wire(self) -> str:
        """Return the name by which a backend knows the tool."""
        return wire_name(self.name, self.namespace)


@dataclass(frozen=True, slots=True)
class Include:
    """Which parts of the output the client wants beside the usual ones (`include[]`)."""

    parts: frozenset[str] = frozenset()
    """The parts of items of tools that run here, by the names that `include` has for them."""
    encrypted_reasoning: bool = False
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a loop that a model drives."""

    max_rounds: int = 10
    max_tool_calls: int = 32


@dataclass(frozen=True, slots=True)
class ResponseRequest:
    """One create call. `items` are input items in the API's shape with ids minted; `sampling` goes to
    the upstream as it is.
    """

    model: str
    items: tuple[JsonObject, ...]
    instructions: str | None = None
    previous_response_id: ResponseId | None = None
    conversation: ConversationId | None = None
    store: bool = True
    stream: bool = False
    background: bool = False
    client_tools: tuple[ClientTool, ...] = ()
    server_tools: tuple[ServerTool, ...] = ()
    """The tools that run here."""
    tools_echo: tuple[JsonObject, ...] = ()
    tool_choice: Json = "auto"
    allowed: frozenset[str] | None = None
    """The wire names of the tools that may be called; None where `tool_choice` names no such set."""
    parallel_tool_calls: bool = True
    max_tool_calls: int | None = None
    service_tier: str | None = None
    """The tier of service that is asked for: told to an upstream that has tiers, and else answered
    with the default one.
    """
    max_output_tokens: int | None = None
    truncation: Literal["auto", "disabled"] = "disabled"
    compact_threshold: int | None = None
    """The size of the context, in tokens, from which on what came before is summarised first."""
    generate: bool = True
    """False: the context is authorized and kept to be continued from, and no model is called (a
    connection's warm-up).
    """
    compact: bool = False
    """Nothing is answered: the conversation is summarised, and that is the output (`POST
    /v1/responses/compact`).
    """
    measured: bool = False
    """Only the size of the first prompt is wanted: calls that the client approved are not made (`POST
    /v1/responses/input_tokens`).
    """
    summarize_reasoning: bool = False
    """The client asked for reasoning as a summary (`reasoning.summary`) rather than as it is."""
    forget_reasoning: bool = False
    """Reasoning of earlier turns is not sent back, whatever the upstream would take
    (`reasoning.context: current_turn`).
    """
    include: Include = field(default_factory=Include)
    sampling: Mapping[str, Json] = field(default_factory=dict)
    """Already in the upstream's spelling: temperature, top_p, response_format, reasoning_effort,
    top_logprobs.
    """
    extra: Mapping[str, Json] = field(default_factory=dict)
    """Fields of a backend's own, for an upstream that is said to take them."""
    echo: Mapping[str, Json] = field(default_factory=dict)
    """Members of the Response that only repeat the request: temperature, top_p, text, reasoning,
    metadata, user, …
    """

    @property
    def tool_types(self) -> tuple[str, ...]:
        """Return the types of the offered tools, for the route decision."""
        client = [tool.kind.type for tool in self.client_tools]
        return tuple(dict.fromkeys([*client, *(tool.kind.type for tool in self.server_tools)]))

    @property
    def searches(self) -> bool:
        """Return whether tools can be searched for; else deferring them means nothing."""
        return any(tool.kind.type == "tool_search" for tool in self.client_tools)

    @property
    def must_call(self) -> str | None:
        """Return the name of the one tool that must be called, if `tool_choice` names one."""
        choice = self.tool_choice
        function = choice.get("function") if isinstance(choice, Mapping) else None
        return cast("str", function["name"]) if isinstance(function, Mapping) else None

    @property
    def server_functions(self) -> dict[str, ServerTool]:
        """Return the tools that run here, by the names that a model calls them by."""
        return {name: tool for tool in self.server_tools for name in tool.functions}

    def runs_here(self, name: str) -> bool:
        """Return whether calls by this name are of a tool that runs here."""
        return any(tool.keeps(name) for tool in self.server_tools)

    @property
    def refers_back(self) -> bool:
        """Return whether the request continues from, or names, what is stored."""
        named = self.previous_response_id is not None or self.conversation is not None
        return named or any(item["type"] == "item_reference" for item in self.items)

    def in_tiers(self) -> ResponseRequest:
        """Return the request for an upstream that has tiers of service: it is told which one is wanted."""
        if self.service_tier is None:
            return self
        shown = "default" if self.service_tier == "auto" else self.service_tier
        return replace(
            self, sampling={**self.sampling, _TIER: self.service_tier}, echo={**self.echo, _TIER: shown}
        )

    def served_in(self, tier: str | None) -> ResponseRequest:
        """Return the request as it is repeated once the upstream has said in which tier it was served."""
        return (
            self
            if tier is None or _TIER not in self.sampling
            else replace(self, echo={**self.echo, _TIER: tier})
        )

    def permits(self, wire: str) -> bool:
        """Return whether `tool_choice` leaves this tool callable. `allowed_tools` is a hard limit, not
        advice to the model. A name that ends in `*` stands for all that a server offers.
        """
        return (
            self.allowed is None
            or wire in self.allowed
            or any(one.endswith("*") and wire.startswith(one[:-1]) for one in self.allowed)
        )
