"""Reads the tools of a chat completion, and which of them may or must be called. The client runs them;
what its policy hides is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from regate_gateway.routes.chat.fields import Fields
from regate_gateway.routes.extras import Extras
from regate_gateway.routes.json_schemas import read_schema
from regate_gateway.routes.responses.client_tools import TOOL_NAME
from regate_gateway.routes.responses.tool_models import is_vacuous
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.responses.tools.view import tool_view
from regate_orchestrator.values import Json, JsonObject

TOOL_FIELDS: Final = ("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call")

_MAX_TOOLS: Final = 128
_MAX_NAME: Final = 64
_LONGEST: Final = 1_000_000
_CALLABLE: Final = ("function", "custom")


@dataclass(frozen=True, slots=True)
class ChatTools:
    """The tools by name, each as it is sent; `functions` are those of the older form. `allowed` None:
    `tool_choice` names no such set.
    """

    tools: Mapping[str, JsonObject] = field(default_factory=dict)
    functions: Mapping[str, JsonObject] = field(default_factory=dict)
    choice: Json = None
    chosen: str | None = None
    """The name of the one tool that must be called."""
    allowed: frozenset[str] | None = None
    parallel: bool | None = None
    function_call: Json = None
    function_chosen: str | None = None

    @property
    def types(self) -> tuple[str, ...]:
        """Return the types of the tools, as policies are told them."""
        offered = {str(tool["type"]) for tool in self.tools.values()} | (
            {"function"} if self.functions else set()
        )
        return tuple(kind for kind in _CALLABLE if kind in offered)

    @property
    def offered(self) -> dict[str, JsonObject]:
        """Return the tools that the policy is asked about, by name; a custom tool is the
        client's function to it.
        """
        return {name: tool_view("function", name) for name in (*self.tools, *self.functions)}

    def members(self, hidden: Collection[str]) -> dict[str, Json]:
        """Return the request's members about tools without those that are hidden. A choice of a tool
        that is not offered chooses nothing.
        """
        sent: dict[str, Json] = {}
        left = {
            name: tool
            for name, tool in self.tools.items()
            if name not in hidden and (self.allowed is None or name in self.allowed)
        }
        if left:
            sent["tools"] = list(left.values())
            if self.choice is not None and (self.chosen is None or self.chosen in left):
                sent["tool_choice"] = self.choice
            if self.parallel is not None:
                sent["parallel_tool_calls"] = self.parallel
        if functions := [function for name, function in self.functions.items() if name not in hidden]:
            sent["functions"] = functions
            if self.function_call is not None and self.function_chosen not in hidden:
                sent["function_call"] = self.function_call
        return sent


def read_chat_tools(fields: Fields, extras: Extras, *, omit: Collection[str]) -> ChatTools:
    """Return the tools. Raises `InvalidRequest` for one that cannot be passed on, unless the operator
    lists its type as one to leave out.
    """
    tools: dict[str, JsonObject] = {}
    for tool in fields.objects("tools", most=_MAX_TOOLS):
        match tool.string("type", most=64):
            case kind if kind in omit or is_vacuous(kind, tool.values):
                continue
            case "function" | "custom" as kind:
                inner = tool.object(kind)
                name = _new_name(inner, tools)
                members = _function(inner, extras) if kind == "function" else _custom(inner, extras)
                tools[name] = {
                    "type": kind,
                    kind: members,
                    **extras.of(tool.values, {"type", kind}, path=tool.path),
                }
            case kind:
                message = (
                    f"Tools of type '{kind}' are not supported by this gateway; use 'function' or 'custom'."
                )
                raise InvalidRequest(message, param=tool.param("type"), code="unsupported_parameter")
    functions: dict[str, JsonObject] = {}
    for function in fields.objects("functions", most=_MAX_TOOLS):
        functions[_new_name(function, {**tools, **functions})] = _function(function, extras)
    choice, chosen, allowed = _choice(fields, tools)
    call, called = _function_call(fields, functions)
    parallel = (
        fields.boolean("parallel_tool_calls", default=True) if fields.has("parallel_tool_calls") else None
    )
    return ChatTools(tools, functions, choice, chosen, allowed, parallel, call, called)


def _new_name(tool: Fields, taken: Collection[str]) -> str:
    name = _name(tool)
    if name in taken:
        raise InvalidRequest(f"Two tools cannot have the name '{name}'.", param=tool.param("name"))
    return name


def _name(tool: Fields) -> str:
    name, place = tool.string("name", most=_MAX_NAME), tool.param("name")
    if not TOOL_NAME.fullmatch(name):
        raise InvalidRequest(
            f"'{place}' must be 1 to {_MAX_NAME} of A-Z a-z 0-9 _ -", param=place, code="invalid_value"
        )
    return name


def _function(function: Fields, extras: Extras) -> JsonObject:
    others = extras.of(function.values, {"name", "description", "parameters", "strict"}, path=function.path)
    members: dict[str, Json] = {
        "name": _name(function),
        "description": function.maybe_string("description", most=_LONGEST),
    }
    if function.has("parameters"):
        members["parameters"] = read_schema(function.values["parameters"], path=function.param("parameters"))
    if function.has("strict"):
        members["strict"] = function.boolean("strict", default=False)
    return {**{name: value for name, value in members.items() if value is not None}, **others}


def _custom(tool: Fields, extras: Extras) -> JsonObject:
    others = extras.of(tool.values, {"name", "description", "format"}, path=tool.path)
    members: dict[str, Json] = {
        "name": _name(tool),
        "description": tool.maybe_string("description", most=_LONGEST),
    }
    wanted = tool.maybe_object("format")
    if wanted is not None:
        wanted.refuse_unknown({"type", "grammar"})
        kind = wanted.choice("type", ("text", "grammar"), default=None)
        members["format"] = {"type": kind}
        if kind == "grammar":
            grammar = wanted.object("grammar")
            grammar.refuse_unknown({"syntax", "definition"})
            syntax, definition = (
                grammar.choice("syntax", ("lark", "regex"), default=None),
                grammar.string("definition", most=_LONGEST),
            )
            members["format"] = {"type": kind, "grammar": {"syntax": syntax, "definition": definition}}
    return {**{name: value for name, value in members.items() if value is not None}, **others}


# ---------------------------------------------------------------- which may or must be called


def _choice(
    fields: Fields, tools: Mapping[str, JsonObject]
) -> tuple[Json, str | None, frozenset[str] | None]:
    """Return the choice as it is sent, the one tool that it demands, and the only ones that it allows:
    others are then not sent at all.
    """
    if not fields.has("tool_choice"):
        return None, None, None
    if isinstance(fields.values["tool_choice"], str):
        chosen = fields.choice("tool_choice", ("none", "auto", "required"), default=None)
        if chosen == "required":
            _require_tools(fields, "tools", "tool_choice")
        return chosen, None, None
    choice = fields.object("tool_choice")
    _require_tools(fields, "tools", "tool_choice")
    kind = choice.choice("type", (*_CALLABLE, "allowed_tools"), default=None)
    if kind != "allowed_tools":
        name = _named(choice, kind, tools)
        return {"type": kind, kind: {"name": name}}, name, None
    choice.refuse_unknown({"type", kind})
    allowed = choice.object(kind)
    allowed.refuse_unknown({"mode", "tools"})
    mode = allowed.choice("mode", ("auto", "required"), default=None)
    names = frozenset(
        _named(one, one.choice("type", _CALLABLE, default=None), tools)
        for one in allowed.objects("tools", most=_MAX_TOOLS)
    )
    if not names:
        place = allowed.param("tools")
        raise InvalidRequest(
            f"'{place}' must name at least one tool.", param=place, code="missing_required_parameter"
        )
    return mode, None, names


def _function_call(fields: Fields, functions: Mapping[str, JsonObject]) -> tuple[Json, str | None]:
    if not fields.has("function_call"):
        return None, None
    if isinstance(fields.values["function_call"], str):
        return fields.choice("function_call", ("none", "auto"), default=None), None
    call = fields.object("function_call")
    _require_tools(fields, "functions", "function_call")
    call.refuse_unknown({"name"})
    name = call.string("name", most=256)
    if name not in functions:
        raise _not_among(name, call.param("name"), "functions")
    return {"name": name}, name


def _named(choice: Fields, kind: str, tools: Mapping[str, JsonObject]) -> str:
    choice.refuse_unknown({"type", kind})
    inner = choice.object(kind)
    inner.refuse_unknown({"name"})
    name = inner.string("name", most=256)
    if name not in tools or tools[name]["type"] != kind:
        raise _not_among(name, inner.param("name"), "tools")
    return name


def _require_tools(fields: Fields, tools: str, choice: str) -> None:
    if not fields.array(tools, most=_MAX_TOOLS):
        raise InvalidRequest(f"'{choice}' is only allowed when '{tools}' are specified.", param=choice)


def _not_among(name: str, place: str, tools: str) -> InvalidRequest:
    return InvalidRequest(
        f"'{place}' names the tool '{name[:100]}', which is not among '{tools}'.", param=place
    )
