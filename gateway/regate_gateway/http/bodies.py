"""Request bodies: bytes counted as they arrive, and one strict JSON reader. Not the fields inside
(`models.py`), not uploads (`multipart.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import orjson
from starlette.types import Receive, Scope

from regate_gateway.http.connection import ClientGone
from regate_gateway.http.misfits import json_kind
from regate_orchestrator.errors import InvalidRequest, TooLarge
from regate_orchestrator.values import Json

_MAX_DEPTH: Final = 100
_LARGE: Final = 256 * 1024
"""Bodies above this are parsed in a thread, so that one of them does not hold up everybody's streams."""


async def read_json(scope: Scope, receive: Receive, *, limit: int) -> dict[str, Json]:
    """Return the request's JSON object. Raises `InvalidRequest`, `TooLarge`, or `ClientGone`.

    What is returned is at most 100 levels deep and holds no NaN, no infinite number, no lone surrogate and no
    NUL character.
    """
    if content_type(scope) != "application/json":
        raise InvalidRequest(
            "Send the request body as JSON, with the header 'Content-Type: application/json'.",
            code="invalid_content_type",
        )
    body = bytearray()
    async for piece in body_pieces(scope, receive, limit=limit):
        body += piece
    if not body:
        raise InvalidRequest("The request body is empty: expected a JSON object.", code="invalid_json")
    return await parsed(body)


async def parsed(body: bytes | bytearray) -> dict[str, Json]:
    """Return the JSON object in these bytes, without holding up everybody else for it. Raises
    `InvalidRequest`.
    """
    return parse_json(body) if len(body) <= _LARGE else await asyncio.to_thread(parse_json, body)


async def body_pieces(scope: Scope, receive: Receive, *, limit: int) -> AsyncIterator[bytes]:
    """Yield the body as it arrives. Raises `TooLarge` as soon as more than `limit` bytes are declared
    or counted, and `ClientGone`.
    """
    if any(value.lower() != b"identity" for value in header_values(scope, b"content-encoding")):
        raise InvalidRequest(
            "Compressed request bodies are not accepted: send it without Content-Encoding.",
            code="invalid_encoding",
        )
    declared = header_values(scope, b"content-length")
    if any(not value.isdigit() or int(value[:20]) > limit for value in declared):
        raise _too_large(limit)
    counted, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        counted += len(piece)
        if counted > limit:
            raise _too_large(limit)
        if piece:
            yield piece


def header_values(scope: Scope, name: bytes) -> list[bytes]:
    """Return all values of a header, whose name must be given in lower case."""
    return [value for key, value in scope["headers"] if key == name]


def has_body(scope: Scope) -> bool:
    """Return whether the request declares a body that is not empty."""
    lengths = header_values(scope, b"content-length")
    return bool(header_values(scope, b"transfer-encoding")) or any(length.strip(b"0") for length in lengths)


def content_type(scope: Scope) -> str:
    """Return the one media type the request declares, without parameters, in lower case; empty when
    there is none, or more than one.
    """
    values = header_values(scope, b"content-type")
    return values[0].split(b";")[0].strip().lower().decode("latin-1") if len(values) == 1 else ""


def parse_json(body: bytes | bytearray) -> dict[str, Json]:
    """Return the JSON object in these bytes. Raises `InvalidRequest`."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(
            (
                f"The request body is not valid JSON (line {error.lineno}, column {error.colno}). NaN, "
                "infinities and lone surrogates are not JSON."
            ),
            code="invalid_json",
        ) from None
    if not isinstance(value, dict):
        raise InvalidRequest(
            f"The request body must be a JSON object, not {json_kind(value)}.", code="invalid_json"
        )
    _refuse_depth(value)
    if b"\\u0000" in body:
        _refuse_nul(value)
    return value


def _refuse_depth(value: Json) -> None:
    """Level by level, so that depth costs no recursion."""
    level: list[Json] = [value]
    for _ in range(_MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer) if isinstance(inner, dict | list)]
        if not level:
            return
    raise InvalidRequest(
        f"The request body is nested more than {_MAX_DEPTH} levels deep.", code="invalid_json"
    )


def _refuse_nul(value: Json) -> None:
    waiting: list[Json] = [value]
    while waiting:
        current = waiting.pop()
        if isinstance(current, str) and "\0" in current:
            raise InvalidRequest(
                "The request body holds the character U+0000, which no text may contain.", code="invalid_json"
            )
        if isinstance(current, dict):
            waiting.extend(current)
        if isinstance(current, dict | list):
            waiting.extend(_inside(current))


def _inside(value: Json) -> list[Json]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The request body is larger than the {limit} bytes that are accepted here.")
