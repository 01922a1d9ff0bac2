"""Tools that the client describes, taken from the shape in which the API shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, cast

from regate_orchestrator.responses.client_tools.functions import CUSTOM
from regate_orchestrator.responses.request import ClientTool
from regate_orchestrator.values import Json, JsonObject

_FREE_TEXT: Final[JsonObject] = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The tool's whole input, as it is."}},
    "required": ["input"],
    "additionalProperties": False,
}
"""A backend knows functions only: the free text of a custom tool is the one argument of a function."""


def described(shown: JsonObject, namespace: str | None = None) -> ClientTool:
    """Return a function or a custom tool as it is offered."""
    name, is_deferred = cast("str", shown["name"]), shown.get("defer_loading") is True
    if shown["type"] == "custom":
        return ClientTool(name, _about(shown), _FREE_TEXT, None, CUSTOM, namespace, is_deferred)
    about, parameters = (
        cast("str | None", shown["description"]),
        cast("JsonObject | None", shown["parameters"]),
    )
    strict = cast("bool | None", shown["strict"])
    return ClientTool(name, about, parameters, strict, namespace=namespace, is_deferred=is_deferred)


def described_in(tools: Json) -> Iterator[ClientTool]:
    """Yield the functions and custom tools of a list, those in namespaces among them."""
    for shown in cast("Sequence[Mapping[str, Json]]", tools):
        if shown["type"] == "namespace":
            for member in cast("Sequence[JsonObject]", shown["tools"]):
                yield described(member, cast("str", shown["name"]))
        elif shown["type"] in ("function", "custom"):
            yield described(shown)


def _about(shown: JsonObject) -> str | None:
    """Return a custom tool's description with its grammar in words, since a backend that takes
    functions only cannot enforce one.
    """
    about, wanted = cast("str | None", shown["description"]), cast("JsonObject", shown["format"])
    if wanted["type"] == "text":
        return about
    grammar = f"The input must match this {wanted['syntax']} grammar:\n{wanted['definition']}"
    return f"{about or ''}\n\n{grammar}".strip()
