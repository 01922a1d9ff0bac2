"""What a model is asked in the next call of a response: the prompt, the tools that it may call, and
its limits. A part of the machine, as pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, cast

from regate_orchestrator.responses.output.assembler import offered_tools, search_limit
from regate_orchestrator.responses.prompt import FILE_SEARCH, Prompt
from regate_orchestrator.responses.request import ClientTool
from regate_orchestrator.responses.state import State
from regate_orchestrator.values import Json, JsonObject

_SEARCH_FUNCTION: Final[JsonObject] = {
    "type": "function",
    "function": {
        "name": FILE_SEARCH,
        "description": "Search the attached documents. Returns passages, each under a marker such as 【1】.",
        "parameters": {
            "type": "object",
            "properties": {
                "query": {
                    "type": "string",
                    "description": "What to look for, as a full question or a few key words.",
                }
            },
            "required": ["query"],
            "additionalProperties": False,
        },
    },
}


def asked(state: State, prompt: Prompt) -> tuple[dict[str, Json], bool]:
    """Return the call's payload, and whether it offers the search. In the last round it does not, so
    that the model must answer.
    """
    request = state.must_header.request
    searchable = (
        request.file_search is not None and FILE_SEARCH not in state.hidden and request.permits(FILE_SEARCH)
    )
    last_round = state.round + 1 >= state.limits.max_rounds
    offers_search = searchable and not last_round and state.searches_opened < search_limit(state)
    payload: dict[str, Json] = {
        **request.extra,
        "model": request.model,
        "messages": prompt.messages,
        **request.sampling,
    }
    tools: list[Json] = [_function(tool) for tool in offered_tools(state).values()]
    if offers_search:
        tools.append(_SEARCH_FUNCTION)
    if tools and request.tool_choice != "none":
        payload["tools"] = tools
        choice = _tool_choice(request.tool_choice, tools) if state.round == 0 else "auto"
        payload |= {} if choice == "auto" else {"tool_choice": choice}
        payload |= {} if request.parallel_tool_calls else {"parallel_tool_calls": False}
    if state.max_output_tokens is not None:
        payload["max_tokens"] = state.max_output_tokens - state.spent
    return payload, offers_search and "tools" in payload


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
