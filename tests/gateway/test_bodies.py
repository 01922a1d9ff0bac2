"""JSON bodies over a real server: what is strict JSON within the limits comes through, everything else
is a 4xx that says what to change.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import orjson
import pytest
from starlette.types import Receive, Scope, Send
from tests.gateway.conftest import Connect, Served, answer

from regate_gateway.http.bodies import read_json
from regate_gateway.http.connection import ClientGone

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT = 300_000
JSON_TYPE = b"Content-Type: application/json\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, orjson.dumps(await read_json(scope, receive, limit=LIMIT)))


async def post(
    served: Served, connect: Connect, body: bytes, *, headers: bytes = JSON_TYPE, chunked: bool = False
) -> tuple[int, Any]:
    framing = b"Transfer-Encoding: chunked\r\n" if chunked else b"Content-Length: %d\r\n" % len(body)
    payload = (
        b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in _pieces(body)) + b"0\r\n\r\n"
        if chunked
        else body
    )
    served.handler = echo
    async with connect(served.server) as raw:
        raw.writer.write(b"POST / HTTP/1.1\r\nHost: a\r\n" + headers + framing + b"\r\n" + payload)
        status, _, answered = await raw.answer()
        return status, json.loads(answered)


def _pieces(body: bytes) -> list[bytes]:
    return [body[start : start + 50_000] for start in range(0, len(body), 50_000)]


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


GOOD: dict[str, bytes] = {
    "empty object": b"{}",
    "text with any script": '{"a": "š 漢 😀 \\ud83d\\ude00 \\u2028"}'.encode(),
    "escaped backslash before u0000": b'{"a": "\\\\u0000"}',
    "100 levels": nested(100),
    "large": b'{"a": "' + b"x" * 290_000 + b'"}',
    "large with numbers": b'{"a": [' + b",".join([b"1"] * 140_000) + b"]}",
}


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD.keys())
@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
async def test_strict_json_comes_through_unchanged(
    served: Served, connect: Connect, body: bytes, chunked: bool
) -> None:
    assert await post(served, connect, body, chunked=chunked) == (200, json.loads(body))


BAD: dict[str, bytes] = {
    "nothing": b"",
    "blank": b"  ",
    "array": b"[]",
    "text": b'"a"',
    "null": b"null",
    "cut off": b'{"a": 1',
    "two values": b"{}{}",
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": -Infinity}',
    "infinite number": b'{"a": 1e400}',
    "lone surrogate": b'{"a": "\\ud800"}',
    "lone surrogate as key": b'{"\\udc00": 1}',
    "encoded surrogate": b'{"a": "\xed\xa0\x80"}',
    "not UTF-8": b'{"a": "\xff"}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "raw NUL": b'{"a": "\x00"}',
    "escaped NUL": b'{"a": [{"b": "x\\u0000"}]}',
    "escaped NUL in a key": b'{"a": {"\\u0000": 1}}',
    "101 levels": nested(101),
    "102 levels of arrays": b'{"a":' + b"[" * 101 + b"]" * 101 + b"}",
    "100,000 levels": b'{"a":' + b"[" * 100_000,
    "comment": b"{/* */}",
    "trailing comma": b'{"a": 1,}',
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
async def test_anything_else_is_400_invalid_json(served: Served, connect: Connect, body: bytes) -> None:
    status, answered = await post(served, connect, body)
    assert (status, answered["error"]["type"], answered["error"]["code"]) == (
        400,
        "invalid_request_error",
        "invalid_json",
    )


async def test_tables_are_not_empty() -> None:
    assert (len(GOOD), len(BAD)) == (6, 23)


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
async def test_body_over_the_limit_is_413(served: Served, connect: Connect, chunked: bool) -> None:
    status, answered = await post(served, connect, b'{"a": "' + b"x" * LIMIT + b'"}', chunked=chunked)
    assert (status, answered["error"]["code"]) == (413, "request_too_large")


async def test_declared_length_over_the_limit_is_refused_before_the_body_comes(
    served: Served, connect: Connect
) -> None:
    served.handler = echo
    async with connect(served.server) as raw:
        await raw.send(
            b"POST / HTTP/1.1\r\nHost: a\r\n" + JSON_TYPE + b"Content-Length: 999999999999999999\r\n\r\n"
        )
        assert (await raw.answer())[0] == 413


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"zstd", b"br", b"identity, gzip"])
async def test_compressed_body_is_refused(served: Served, connect: Connect, encoding: bytes) -> None:
    status, answered = await post(
        served, connect, b"{}", headers=JSON_TYPE + b"Content-Encoding: " + encoding + b"\r\n"
    )
    assert (status, answered["error"]["code"]) == (400, "invalid_encoding")


@pytest.mark.parametrize(
    "kind",
    [None, b"text/plain", b"application/x-www-form-urlencoded", b"application/jsonp", b"multipart/form-data"],
)
async def test_body_that_is_not_declared_as_json_is_refused(
    served: Served, connect: Connect, kind: bytes | None
) -> None:
    status, answered = await post(
        served, connect, b"{}", headers=b"" if kind is None else b"Content-Type: " + kind + b"\r\n"
    )
    assert (status, answered["error"]["code"]) == (400, "invalid_content_type")


async def test_charset_is_accepted_beside_the_type(served: Served, connect: Connect) -> None:
    assert (await post(served, connect, b"{}", headers=b"Content-Type: Application/JSON; charset=utf-8\r\n"))[
        0
    ] == 200


async def test_client_that_leaves_in_the_middle_ends_the_reading(served: Served, connect: Connect) -> None:
    ended = asyncio.get_running_loop().create_future()

    async def reads(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await read_json(scope, receive, limit=LIMIT)
        except ClientGone as gone:
            ended.set_result(gone)

    served.handler = reads
    async with connect(served.server) as raw:
        await raw.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + JSON_TYPE + b'Content-Length: 100\r\n\r\n{"a"')
    async with asyncio.timeout(120):
        assert isinstance(await ended, ClientGone)
