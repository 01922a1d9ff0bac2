"""Query strings, read as the models of requests (`models.py`).

A query says everything as text. The type of a member says which texts it takes.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from functools import cache
from typing import Any, Final, TypeVar, get_args, get_origin
from urllib.parse import parse_qsl

from regate_gateway.http.misfits import not_among, require_known
from regate_gateway.http.models import RequestModel
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.values import Json

Model = TypeVar("Model", bound=RequestModel)
_MAX_PARAMETERS: Final = 50
_MAX_DIGITS: Final = 20
_FLAGS: Final = {"true": True, "false": False}


def read_query(model: type[Model], scope: MutableMapping[str, Any]) -> Model:
    """Return the query string's parameters. Raises `InvalidRequest`.

    A parameter may occur once, unless it is a list: that is written as `name` or `name[]`, repeated.
    """
    given = _given(scope)
    require_known(given, model.known)
    read: dict[str, Json] = {}
    for name, values in given.items():
        kind = _kind_of(model, name)
        if kind is not list and len(values) > 1:
            raise repeated(name)
        read[name] = values if kind is list else _value(name, values[0], kind)
    return model.read(read)


def repeated(name: str) -> InvalidRequest:
    """Return the error for a parameter that is given more than once."""
    return InvalidRequest(f"Invalid '{name}': it is given more than once.", param=name, code="invalid_value")


def _given(scope: MutableMapping[str, Any]) -> dict[str, list[str]]:
    try:
        pairs = parse_qsl(
            scope["query_string"].decode("ascii"),
            keep_blank_values=True,
            max_num_fields=_MAX_PARAMETERS,
            encoding="utf-8",
            errors="strict",
        )
    except ValueError:
        raise InvalidRequest("The query string is not valid.", code="invalid_query") from None
    given: dict[str, list[str]] = {}
    for name, value in pairs:
        if "\0" in name or "\0" in value:
            raise InvalidRequest("The query string holds the character U+0000.", code="invalid_query")
        given.setdefault(name.removesuffix("[]"), []).append(value)
    return given


def _value(name: str, text: str, kind: type) -> Json:
    if kind is bool:
        if text not in _FLAGS:
            raise not_among(name, text, _FLAGS)
        return _FLAGS[text]
    if kind is int:
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS):
            raise InvalidRequest(
                f"Invalid type for '{name}': expected an integer.", param=name, code="invalid_type"
            )
        return int(text)
    return text


@cache
def _kind_of(model: type[RequestModel], name: str) -> type:
    """Return which of `bool`, `int`, `list` and `str` a member is, whatever else is said of it."""
    return _kind(model.model_fields[name].annotation)


def _kind(annotation: Any) -> type:
    kinds = {get_origin(annotation) or annotation, *map(_kind, get_args(annotation))}
    return next((kind for kind in (list, bool, int) if kind in kinds), str)
