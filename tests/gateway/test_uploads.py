"""Uploads over a real server: the file streams to storage, forms are held to their limits, and what is
malformed is a 4xx.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from tests.gateway.conftest import Connect, Served, answer

from regate_gateway.http.multipart import read_upload

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT = 4_000_000
TYPE = b"multipart/form-data; boundary=line"


class Recorder:
    """Stores nothing; remembers how the bytes came."""

    def __init__(self) -> None:
        self.received = b""
        self.largest = 0
        self.complete = False

    async def store(self, filename: str, pieces: AsyncIterator[bytes]) -> int:
        async for piece in pieces:
            self.received += piece
            self.largest = max(self.largest, len(piece))
        self.complete = True
        return len(self.received)


def part(name: str, content: bytes, *, filename: str | None = None, extra: bytes = b"") -> bytes:
    shown = "" if filename is None else f'; filename="{filename}"'
    return (
        f'--line\r\nContent-Disposition: form-data; name="{name}"{shown}\r\n'.encode()
        + extra
        + b"\r\n"
        + content
        + b"\r\n"
    )


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--line--\r\n"


FILE = part("file", b"hello", filename="a.txt", extra=b"Content-Type: text/plain\r\n")
PURPOSE = part("purpose", b"assistants")


async def upload(
    served: Served, connect: Connect, body: bytes, *, kind: bytes = TYPE, declared: int | None = None
) -> tuple[int, Any, Recorder]:
    recorder = Recorder()

    async def receives(scope: Scope, receive: Receive, send: Send) -> None:
        found = await read_upload(scope, receive, limit=LIMIT, store=recorder.store)
        await answer(send, json.dumps(asdict(found)).encode())

    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: " + kind + b"\r\nContent-Length: %d\r\n\r\n"
    served.handler = receives
    async with connect(served.server) as raw:
        raw.writer.write(head % (len(body) if declared is None else declared) + body)
        status, _, answered = await raw.answer()
        return status, json.loads(answered), recorder


@pytest.mark.parametrize("parts", [(PURPOSE, FILE), (FILE, PURPOSE)], ids=["field first", "file first"])
async def test_fields_and_file_come_in_any_order(
    served: Served, connect: Connect, parts: tuple[bytes, ...]
) -> None:
    status, found, recorder = await upload(served, connect, form(*parts))
    expected = {
        "fields": {"purpose": "assistants"},
        "filename": "a.txt",
        "size": 5,
        "sha256": hashlib.sha256(b"hello").hexdigest(),
    }
    assert (status, found, recorder.received) == (200, expected, b"hello")


async def test_large_file_arrives_whole_and_in_small_pieces(served: Served, connect: Connect) -> None:
    content = bytes(range(256)) * 12_000 + b"\r\n--lin\r\n--line-"
    status, found, recorder = await upload(
        served, connect, form(part("file", content, filename="a.bin"), PURPOSE)
    )
    assert (status, found["size"], recorder.received == content, recorder.largest < 1_000_000) == (
        200,
        len(content),
        True,
        True,
    )


async def test_empty_file_is_a_file(served: Served, connect: Connect) -> None:
    status, found, _ = await upload(served, connect, form(part("file", b"", filename="empty.txt")))
    assert (status, found["size"]) == (200, 0)


@pytest.mark.parametrize(
    "written",
    [
        'filename="Prüfung.md"',
        'filename="=?utf-8?B?UHLDvGZ1bmcubWQ=?="',  # .NET
        "filename=\"=?utf-8?B?UHLDvGZ1bmcubWQ=?=\"; filename*=utf-8''Pr%C3%BCfung.md",
        'filename="=?UTF-8?Q?Pr=C3=BCfung=2Emd?="',
        "filename*=utf-8''Pr%C3%BCfung.md",
        "filename*=ISO-8859-1'de'Pr%FCfung.md",
    ],
)
async def test_filename_is_the_same_however_its_letters_are_written(
    served: Served, connect: Connect, written: str
) -> None:
    sent = part("file", b"x", filename="NAME").replace(b'filename="NAME"', written.encode())
    _, found, _ = await upload(served, connect, form(sent))
    assert found["filename"] == "Prüfung.md"


@pytest.mark.parametrize(
    "name", ["=?utf-8?B?x?=", "=?nothing?B?YQ==?=", "=?utf-8?B?/w==?=", "a =?utf-8?B?YQ==?= b"]
)
async def test_filename_that_only_looks_encoded_is_kept(served: Served, connect: Connect, name: str) -> None:
    _, found, _ = await upload(served, connect, form(part("file", b"y", filename=name)))
    assert found["filename"] == name.rpartition("/")[2]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a.txt", "a.txt"),
        ("dir/sub/a.txt", "a.txt"),
        ("..\\\\..\\\\a.txt", "a.txt"),
        ("/etc/passwd", "passwd"),
        ("naïve 漢.md", "naïve 漢.md"),
    ],
)
async def test_only_the_last_part_of_a_filename_is_kept(
    served: Served, connect: Connect, given: str, kept: str
) -> None:
    _, found, _ = await upload(served, connect, form(part("file", b"x", filename=given)))
    assert found["filename"] == kept


REFUSED: dict[str, bytes] = {
    "no file": form(PURPOSE),
    "no parts": form(),
    "nothing": b"",
    "two files": form(FILE, FILE),
    "field twice": form(FILE, PURPOSE, PURPOSE),
    "no filename": form(part("file", b"x")),
    "filename empty": form(part("file", b"x", filename="")),
    "filename hidden": form(part("file", b"x", filename="=?utf-8?B?YQBi?=")),
    "filename of half a character": form(
        part("file", b"x", filename="N").replace(b'filename="N"', b"filename*=utf-8''%C3")
    ),
    "filename a directory": form(part("file", b"x", filename="..")),
    "filename with a control character": form(part("file", b"x", filename="a\x1b[2J.txt")),
    "filename too long": form(part("file", b"x", filename="n" * 256)),
    "breaks off in the file": part("file", b"x" * 100, filename="a.txt")[:-50],
    "breaks off in a head": b'--line\r\nContent-Disposition: form-data; name="fi',
    "breaks off before the end": FILE + b"--line",
    "no disposition": b"--line\r\nContent-Type: text/plain\r\n\r\nx\r\n--line--\r\n",
    "another disposition": b'--line\r\nContent-Disposition: attachment; name="file"\r\n\r\nx\r\n--line--\r\n',
    "no name": b"--line\r\nContent-Disposition: form-data\r\n\r\nx\r\n--line--\r\n",
    "two dispositions": (
        b'--line\r\nContent-Disposition: form-data; name="a"\r\nContent-Disposition: form-data; '
        b'name="b"\r\n\r\nx\r\n--line--\r\n'
    ),
    "base64 part": form(
        part("file", b"eA==", filename="a.txt", extra=b"Content-Transfer-Encoding: base64\r\n")
    ),
    "many part headers": form(
        part("file", b"x", filename="a.txt", extra=b"".join(b"X-%d: y\r\n" % n for n in range(20)))
    ),
    "huge part header": form(part("file", b"x", filename="a.txt", extra=b"X: " + b"y" * 100_000 + b"\r\n")),
    "many parts": form(FILE, *(part(f"f{number}", b"x") for number in range(40))),
    "field not UTF-8": form(FILE, part("purpose", b"\xff")),
    "field with NUL": form(FILE, part("purpose", b"a\0b")),
    "another boundary": form(FILE).replace(b"--line", b"--other"),
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED.keys())
async def test_bad_form_is_400(served: Served, connect: Connect, body: bytes) -> None:
    status, found, _ = await upload(served, connect, body)
    assert (status, found["error"]["type"]) == (400, "invalid_request_error")


async def test_table_of_bad_forms_is_not_empty() -> None:
    assert len(REFUSED) == 26


@pytest.mark.parametrize(
    "kind",
    [
        b"application/json",
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=" + b"x" * 71,
    ],
)
async def test_bad_content_type_is_400(served: Served, connect: Connect, kind: bytes) -> None:
    assert (await upload(served, connect, form(FILE), kind=kind))[0] == 400


async def test_file_over_the_limit_is_413_and_is_never_complete(served: Served, connect: Connect) -> None:
    status, found, recorder = await upload(
        served, connect, form(part("file", b"x" * (LIMIT + 1), filename="a.bin"))
    )
    assert (status, found["error"]["code"], recorder.complete) == (413, "request_too_large", False)


async def test_form_over_the_limit_is_refused_before_it_comes(served: Served, connect: Connect) -> None:
    status, _, recorder = await upload(served, connect, b"", declared=LIMIT + 2_000_000)
    assert (status, recorder.received) == (413, b"")


async def test_field_over_its_limit_is_413(served: Served, connect: Connect) -> None:
    assert (await upload(served, connect, form(part("purpose", b"x" * 70_000), FILE)))[0] == 413


async def test_storage_that_stops_before_the_end_is_an_error_of_ours(
    served: Served, connect: Connect
) -> None:
    async def stops(filename: str, pieces: AsyncIterator[bytes]) -> int:
        return len(await anext(pieces))

    async def receives(scope: Scope, receive: Receive, send: Send) -> None:
        await read_upload(scope, receive, limit=LIMIT, store=stops)

    body = form(part("file", b"x" * 500_000, filename="a.bin"))
    served.handler = receives
    async with connect(served.server) as raw:
        raw.writer.write(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: "
            + TYPE
            + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
            + body
        )
        assert (await raw.answer())[0] == 500
