"""A request in one upstream's own words: its name for the model, its field for the output limit, its place
for system messages.

What an upstream wants is configured (`UpstreamCapabilities`). Where it refuses a request for one of these
alone and says so, the other way is tried, and kept for that model once it was taken. Nothing is sent again
for any other reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, cast

from regate_orchestrator.errors import UpstreamError
from regate_orchestrator.upstream_capabilities import OutputLimit, UpstreamCapabilities
from regate_orchestrator.values import Json, JsonObject

_LIMITS: Final[Mapping[OutputLimit, OutputLimit]] = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
}
"""The names of the output limit, each with the other."""
_SYSTEM: Final = ("system", "developer")
_COMBINED: Final = frozenset({"$ref", "anyOf", "oneOf", "allOf"})
_UNKNOWN: Final = re.compile(
    r"unsupported|not "
    r"support|unknown|unrecogni[sz]ed|unexpected|extra[ _](?:input|field|forbidden)|not "
    r"(?:permitted|allowed)"
    r"|invalid (?:param|arg|field)",
    re.IGNORECASE,
)
_MUST_LEAD: Final = re.compile(
    r"system (?:message|prompt|role)s?\b.{0,80}\b(?:beginning|first|start)", re.IGNORECASE | re.DOTALL
)


class Wording:
    """The words of one upstream. `aliases` are the names that clients use for models of it, each with
    its own.
    """

    def __init__(self, capabilities: UpstreamCapabilities, aliases: Mapping[str, str]) -> None:
        self._capabilities = capabilities
        self._aliases = aliases
        self._found: dict[str, UpstreamCapabilities] = {}

    def capabilities(self, payload: JsonObject) -> UpstreamCapabilities:
        """Return the traits by which this request is worded: as configured, or as found out for its model."""
        return self._found.get(str(payload.get("model")), self._capabilities)

    def keep(self, payload: JsonObject, capabilities: UpstreamCapabilities) -> None:
        """Word requests for this one's model so from now on."""
        self._found[str(payload.get("model"))] = capabilities

    def of(self, payload: JsonObject, capabilities: UpstreamCapabilities) -> JsonObject:
        """Return the request as the upstream is sent it."""
        worded = dict(payload)
        model = worded.get("model")
        if isinstance(model, str) and model in self._aliases:
            worded["model"] = self._aliases[model]
        if "messages" not in worded:
            return worded
        _limit(worded, capabilities.output_limit)
        if not capabilities.stream_usage:
            worded.pop("stream_options", None)
        if "seed" in worded and capabilities.seed_field != "seed":
            worded.setdefault(capabilities.seed_field, worded.pop("seed"))
        if capabilities.system_messages == "leading":
            worded["messages"] = _led(cast("Sequence[Mapping[str, Json]]", worded["messages"]))
        if "tools" in worded:
            worded["tools"] = [
                _with_parameters(tool) for tool in cast("Sequence[Mapping[str, Json]]", worded["tools"])
            ]
        if "functions" in worded:
            worded["functions"] = [
                _function(function) for function in cast("Sequence[Mapping[str, Json]]", worded["functions"])
            ]
        return worded


def mended(
    payload: JsonObject, capabilities: UpstreamCapabilities, refusal: UpstreamError
) -> UpstreamCapabilities | None:
    """Return the traits under which a refused request may be taken; None where the refusal says
    nothing of the kind.
    """
    if refusal.status != 400 or refusal.code == "context_length_exceeded" or "messages" not in payload:
        return None
    said = refusal.detail
    other = _LIMITS[capabilities.output_limit]
    if (
        not _LIMITS.keys().isdisjoint(payload)
        and _names(said, capabilities.output_limit)
        and (_names(said, other) or _UNKNOWN.search(said))
    ):
        return replace(capabilities, output_limit=other)
    if (
        capabilities.stream_usage
        and "stream_options" in payload
        and _names(said, "stream_options")
        and _UNKNOWN.search(said)
    ):
        return replace(capabilities, stream_usage=False)
    if capabilities.system_messages == "anywhere" and _MUST_LEAD.search(said):
        return replace(capabilities, system_messages="leading")
    return None


def _names(said: str, field: str) -> bool:
    return re.search(rf"\b{field}\b", said) is not None


def _limit(worded: dict[str, Json], name: OutputLimit) -> None:
    """Have the output limit under this name alone; of two the lower one holds."""
    given = [cast("float", value) for limit in _LIMITS if (value := worded.pop(limit, None)) is not None]
    if given:
        worded[name] = min(given)


def _led(messages: Sequence[Mapping[str, Json]]) -> list[Json]:
    """Return the messages with all that is said as the system in one, at the beginning, in the order
    in which it was said.
    """
    led: list[Json] = [message for message in messages if message.get("role") not in _SYSTEM]
    said = [message for message in messages if message.get("role") in _SYSTEM]
    if not said:
        return led
    contents = [content for message in said if (content := message.get("content"))]
    return [{**said[0], "role": "system", "content": _joined(contents)}, *led]


def _joined(contents: Sequence[Json]) -> Json:
    if all(isinstance(content, str) for content in contents):
        return "\n\n".join(cast("Sequence[str]", contents))
    parts = [
        [{"type": "text", "text": content}] if isinstance(content, str) else content for content in contents
    ]
    return [part for content in cast("list[list[Json]]", parts) for part in content]


def _with_parameters(tool: Mapping[str, Json]) -> Json:
    function = tool.get("function")
    return {**tool, "function": _function(function)} if isinstance(function, Mapping) else tool


def _function(function: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return a function with a schema that says that it takes an object, where it was left out: not
    every backend and template does without.
    """
    given = function.get("parameters")
    parameters = given if isinstance(given, Mapping) else {}
    if not _COMBINED.isdisjoint(parameters) or {"type", "properties"} <= parameters.keys():
        return function
    return {**function, "parameters": {"type": "object", "properties": {}, **parameters}}
