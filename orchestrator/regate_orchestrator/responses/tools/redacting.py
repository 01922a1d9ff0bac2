"""Redacting results: the values of named members, at any depth, before anybody reads them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from regate_orchestrator.responses.tools.tool import ToolResult
from regate_orchestrator.values import Json

REDACTED: Final = "[redacted]"


class Unreadable(Exception):
    """The result is not structured, so nothing in it can be found by its name."""


def redacted(result: ToolResult, names: Collection[str]) -> ToolResult:
    """Return the result without the values of these members. What a tool says of its own failure counts as a
    result. Raises `Unreadable`.
    """
    if not result.text:
        return result
    if result.failed:
        raise Unreadable
    try:
        value = json.loads(result.text)
        if not isinstance(value, dict | list):
            raise Unreadable
        text = json.dumps(_without(value, names), ensure_ascii=False)
    except (ValueError, RecursionError) as error:
        raise Unreadable from error
    shown = {name: text if said == result.text else said for name, said in result.shown.items()}
    return replace(result, text=text, shown=shown, size=len(text.encode("utf-8", "replace")))


def _without(value: Json, names: Collection[str]) -> Json:
    if isinstance(value, Mapping):
        return {name: REDACTED if name in names else _without(one, names) for name, one in value.items()}
    if isinstance(value, list):
        return [_without(one, names) for one in value]
    return _without_inside(value, names) if isinstance(value, str) else value


def _without_inside(text: str, names: Collection[str]) -> str:
    """Return a text; where it is a JSON object or list itself, without the values of these members."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        inner = json.loads(text)
    except ValueError:
        return text
    return json.dumps(_without(inner, names), ensure_ascii=False)
