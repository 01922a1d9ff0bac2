"""What a model is asked in the next call of a response: the prompt, the tools that it may call, and
its limits. A part of the machine, as pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.responses.output.calls import call_limit
from regate_orchestrator.responses.output.offering import found, is_last_round, offered_tools
from regate_orchestrator.responses.prompt import Prompt
from regate_orchestrator.responses.request import ClientTool
from regate_orchestrator.responses.state import State
from regate_orchestrator.responses.tools.tool import ServerTool
from regate_orchestrator.values import Json, JsonObject


def asked(
    state: State, prompt: Prompt
) -> tuple[dict[str, Json], dict[str, ServerTool], dict[str, ClientTool]]:
    """Return the call's payload, and the tools that it offers, by the names of their functions: those that
    run here, and the client's.

    In the last round it offers none of the former, so that the model must answer.
    """
    request = state.request
    offered, client = _offered(state), offered_tools(state)
    payload: dict[str, Json] = {
        **request.extra,
        "model": request.model,
        "messages": prompt.messages,
        **request.sampling,
    }
    tools: list[Json] = [_function(tool) for tool in client.values()]
    tools += [tool.functions[name] for name, tool in offered.items()]
    if tools and request.tool_choice != "none":
        payload["tools"] = tools
        # A call that the client approved was made: it is the one that was demanded.
        is_demanded = state.round == 0 and not state.tools.opened
        choice = _tool_choice(request.tool_choice, tools) if is_demanded else "auto"
        payload |= {} if choice == "auto" else {"tool_choice": choice}
        payload |= {} if request.parallel_tool_calls else {"parallel_tool_calls": False}
    if state.turn.max_output_tokens is not None:
        payload["max_tokens"] = state.turn.max_output_tokens - state.spent
    return (payload, offered, client) if "tools" in payload else (payload, {}, {})


def too_long(window: int) -> InvalidRequest:
    """Return the refusal of an input that is longer than the model's context."""
    message = (
        f"The input is longer than the {window} tokens of this model's context. Send less, or set "
        "'truncation' to 'auto'."
    )
    return InvalidRequest(message, param="input", code="context_length_exceeded")


def truncated(state: State) -> State | None:
    """Return the state without the older half of the conversation, cut where a turn of the user's
    begins; None when only one is left.
    """
    history, prompted = state.context.history, state.context.prompted
    bodies = [item.body for item in (*history, *prompted)]
    starts = [
        place for place, body in enumerate(bodies) if body["type"] == "message" and body.get("role") == "user"
    ]
    if len(starts) < 2:
        return None
    cut = starts[(len(starts) + 1) // 2]
    return state.with_context(history=history[cut:], prompted=prompted[max(cut - len(history), 0) :])


def _offered(state: State) -> dict[str, ServerTool]:
    request = state.request
    if is_last_round(state) or state.tools.opened >= call_limit(state):
        return {}
    loaded = found(state).names
    return {
        name: tool
        for name, tool in request.server_functions.items()
        if name not in state.turn.hidden
        and request.permits(name)
        and (not (tool.is_deferred and request.searches) or name in loaded or name == request.must_call)
    }


def _function(tool: ClientTool) -> JsonObject:
    members: dict[str, Json] = {
        "name": tool.wire,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }
    return {
        "type": "function",
        "function": {name: value for name, value in members.items() if value is not None},
    }


def _tool_choice(choice: Json, tools: Sequence[Json]) -> Json:
    """Return the tool choice for this model call; one that demands a tool which is not offered demands
    nothing.
    """
    names = {tool["function"]["name"] for tool in cast("Sequence[Mapping[str, Mapping[str, Json]]]", tools)}
    if isinstance(choice, Mapping) and cast("Mapping[str, Json]", choice["function"])["name"] not in names:
        return "auto"
    return choice
