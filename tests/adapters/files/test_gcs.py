"""What is Google Cloud Storage's own: what an upload leaves, parts that are kept in part, answers that are lost,
tokens, and a storage that fails. Before a stand-in that is made of Google's documentation.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.adapters.files.gcs_standin import Standin, running_standin

from regate_adapters.files.blobs.gcs import GcsBlobStore, GcsPlace
from regate_adapters.files.blobs.gcs_tokens import Machine, ServiceAccount, Tokens, TokenSource
from regate_adapters.testing.ports import free_port
from regate_gateway.composition.opening import open_blobs
from regate_gateway.config.files_settings import Files
from regate_orchestrator.errors import ConfigurationError, NotFound, StateUnavailable, TooLarge
from regate_orchestrator.values import FileId

FILE = FileId("file-0123abcd")
MIB = 1024 * 1024
NAME = f"files/{FILE}"


async def megabytes(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number]) * MIB


def content(count: int) -> bytes:
    return b"".join(bytes([number]) * MIB for number in range(count))


@pytest.fixture
async def standin() -> AsyncIterator[Standin]:
    async with running_standin() as server:
        yield server


def store(
    standin: Standin,
    scratch: Path,
    *,
    url: str = "",
    source: TokenSource | None = None,
    bucket: str = "",
    deadline_s: float = 20.0,
) -> GcsBlobStore:
    place = GcsPlace(bucket or standin.bucket, url or standin.url, "files/")
    return GcsBlobStore(place, source, scratch=scratch, deadline_s=deadline_s)


async def read(gcs: GcsBlobStore) -> bytes:
    return b"".join([piece async for piece in gcs.read(FILE)])


async def test_a_small_file_is_one_request_and_lies_below_the_prefix(
    standin: Standin, tmp_path: Path
) -> None:
    async with store(standin, tmp_path) as gcs:
        await gcs.write(FILE, megabytes(5), limit=5 * MIB)

    assert {name: len(data) for name, data in standin.objects.items()} == {NAME: 5 * MIB}
    assert standin.seen == {"upload": 1}


async def test_a_large_file_goes_in_parts_and_says_its_length_with_the_last(
    standin: Standin, tmp_path: Path
) -> None:
    async with store(standin, tmp_path) as gcs:
        assert await gcs.write(FILE, megabytes(11), limit=11 * MIB) == 11 * MIB

    part = 5 * MIB
    assert standin.spans == [
        f"bytes 0-{part - 1}/*",
        f"bytes {part}-{2 * part - 1}/*",
        f"bytes {2 * part}-{11 * MIB - 1}/{11 * MIB}",
    ]
    assert standin.objects == {NAME: content(11)}


@pytest.mark.parametrize("kept", [[0], [256 * 1024], [MIB, 2 * MIB, 0], [5 * MIB, 7 * 256 * 1024]])
async def test_what_was_not_kept_of_a_part_is_sent_again(
    standin: Standin, tmp_path: Path, kept: list[int]
) -> None:
    standin.keeping = kept
    async with store(standin, tmp_path) as gcs:
        await gcs.write(FILE, megabytes(12), limit=12 * MIB)

    assert standin.objects == {NAME: content(12)}


@pytest.mark.parametrize("size", [1, 6, 12])
@pytest.mark.parametrize("asked", ["upload", "part"])
@pytest.mark.parametrize("how", ["lost", "503", "429"])
async def test_a_request_that_fails_once_is_made_good(
    standin: Standin, tmp_path: Path, size: int, asked: str, how: str
) -> None:
    if how == "lost":
        standin.losing = [asked]
    else:
        standin.failing = [(asked, int(how))]
    async with store(standin, tmp_path) as gcs:
        await gcs.write(FILE, megabytes(size), limit=size * MIB)
        standin.failing = [("get", 503), ("get", 500)]
        assert await read(gcs) == content(size)

    assert standin.objects == {NAME: content(size)}


async def test_a_last_part_whose_answers_are_lost_makes_one_object(standin: Standin, tmp_path: Path) -> None:
    async with store(standin, tmp_path) as gcs:

        async def parts() -> AsyncIterator[bytes]:
            async for piece in megabytes(6):
                yield piece
            standin.losing = ["part"] * 3

        await gcs.write(FILE, parts(), limit=6 * MIB)

    assert standin.objects == {NAME: content(6)}
    assert standin.spans[-1] == f"bytes */{6 * MIB}"


async def test_a_refused_upload_leaves_neither_object_nor_session(standin: Standin, tmp_path: Path) -> None:
    async with store(standin, tmp_path) as gcs:
        with pytest.raises(TooLarge):
            await gcs.write(FILE, megabytes(20), limit=19 * MIB)

    assert (standin.objects, standin.sessions, standin.seen["cancel"]) == ({}, {}, 1)


async def test_a_cancelled_upload_leaves_neither_object_nor_session(standin: Standin, tmp_path: Path) -> None:
    reached = asyncio.Event()
    held: list[int] = []

    async def waiting() -> AsyncIterator[bytes]:
        async for piece in megabytes(12):
            yield piece
        held.append(len(standin.sessions))
        reached.set()
        await asyncio.Event().wait()

    async with store(standin, tmp_path) as gcs, asyncio.TaskGroup() as tasks:
        upload = tasks.create_task(gcs.write(FILE, waiting(), limit=100 * MIB))
        await reached.wait()
        upload.cancel()

    assert held == [1]
    assert (standin.objects, standin.sessions) == ({}, {})


async def test_a_session_that_is_gone_ends_the_upload(standin: Standin, tmp_path: Path) -> None:
    async def interrupted() -> AsyncIterator[bytes]:
        async for piece in megabytes(7):
            yield piece
        standin.sessions.clear()
        async for piece in megabytes(7):
            yield piece

    async with store(standin, tmp_path) as gcs:
        with pytest.raises(StateUnavailable) as refusal:
            await gcs.write(FILE, interrupted(), limit=100 * MIB)

    assert (refusal.value.detail, standin.objects) == ("files: HTTP 410 (gone)", {})


async def test_a_storage_that_goes_on_failing_is_unavailable_and_tells_no_place(
    standin: Standin, tmp_path: Path
) -> None:
    async with store(standin, tmp_path) as gcs:
        standin.failing = [("upload", 503)] * 3
        with pytest.raises(StateUnavailable) as refusal:
            await gcs.write(FILE, megabytes(1), limit=MIB)
        assert refusal.value.detail == "files: HTTP 503 (backendError)"
        standin.failing = [("list", 403)]
        with pytest.raises(StateUnavailable):
            await gcs.check()

    assert standin.seen["upload"] == 3


async def test_a_storage_that_is_gone_is_unavailable_everywhere(standin: Standin, tmp_path: Path) -> None:
    async with store(standin, tmp_path, url=f"http://127.0.0.1:{free_port()}", deadline_s=0.3) as gcs:
        for work in (
            gcs.write(FILE, megabytes(1), limit=MIB),
            gcs.write(FILE, megabytes(6), limit=6 * MIB),
            gcs.delete(FILE),
            gcs.check(),
            read(gcs),
        ):
            with pytest.raises(StateUnavailable):
                await work
        with pytest.raises(StateUnavailable):
            async with gcs.local(FILE):
                pass

    assert list(tmp_path.iterdir()) == []


async def test_a_storage_that_hangs_is_left_in_time(standin: Standin, tmp_path: Path) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            pass
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with server, asyncio.timeout(30):
        port = server.sockets[0].getsockname()[1]
        async with store(standin, tmp_path, url=f"http://127.0.0.1:{port}", deadline_s=0.3) as gcs:
            for work in (gcs.write(FILE, megabytes(6), limit=6 * MIB), gcs.check()):
                with pytest.raises(StateUnavailable) as refusal:
                    await work
                assert refusal.value.detail == "files: no answer in time"


async def test_a_range_of_another_length_is_no_short_file(standin: Standin, tmp_path: Path) -> None:
    async with store(standin, tmp_path) as gcs:
        await gcs.write(FILE, megabytes(3), limit=3 * MIB)
        pieces = gcs.read(FILE)
        first = await anext(pieces)
        standin.objects[NAME] = standin.objects[NAME][: MIB + 5]
        with pytest.raises(StateUnavailable):
            await anext(pieces)

    assert len(first) == MIB


async def test_a_bucket_that_does_not_exist_is_unavailable(standin: Standin, tmp_path: Path) -> None:
    async with store(standin, tmp_path, bucket="no-such-bucket") as gcs:
        for work in (
            gcs.check(),
            gcs.write(FILE, megabytes(1), limit=MIB),
            gcs.write(FILE, megabytes(6), limit=6 * MIB),
        ):
            with pytest.raises(StateUnavailable) as refusal:
                await work
            assert refusal.value.detail == "files: HTTP 404 (notFound)"


async def test_what_is_no_id_never_reaches_the_storage(standin: Standin, tmp_path: Path) -> None:
    async with store(standin, tmp_path) as gcs:
        with pytest.raises(NotFound):
            await gcs.delete(FileId("file-1/../../other"))

    assert standin.seen == {}


# ---------------------------------------------------------------- tokens


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


def key_file(folder: Path, key: rsa.RSAPrivateKey, url: str) -> Path:
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    path = folder / "account.json"
    fields = {
        "type": "service_account",
        "private_key_id": "k1",
        "private_key": text,
        "client_email": "regate@project.iam.gserviceaccount.com",
        "token_uri": f"{url}/token",
    }
    path.write_text(json.dumps(fields))
    return path


async def test_a_service_account_is_let_in_by_one_token(
    standin: Standin, tmp_path: Path, key: rsa.RSAPrivateKey
) -> None:
    standin.tokens, standin.public_key = set(), key.public_key()
    account = ServiceAccount.read(key_file(tmp_path, key, standin.url))
    async with store(standin, tmp_path / "scratch", source=account) as gcs:
        await asyncio.gather(*(gcs.check() for _ in range(5)))
        await gcs.write(FILE, megabytes(11), limit=11 * MIB)
        assert await read(gcs) == content(11)

    assert standin.seen["token"] == 1
    assert "PRIVATE" not in repr(account)


async def test_a_token_that_is_refused_is_replaced_once(
    standin: Standin, tmp_path: Path, key: rsa.RSAPrivateKey
) -> None:
    standin.tokens, standin.public_key = set(), key.public_key()
    account = ServiceAccount.read(key_file(tmp_path, key, standin.url))
    async with store(standin, tmp_path / "scratch", source=account) as gcs:
        await gcs.check()
        standin.tokens.clear()
        await gcs.check()

    assert standin.seen["token"] == 2


async def test_an_account_that_is_refused_is_unavailable(
    standin: Standin, tmp_path: Path, key: rsa.RSAPrivateKey
) -> None:
    other = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    standin.tokens, standin.public_key = set(), other.public_key()
    account = ServiceAccount.read(key_file(tmp_path, key, standin.url))
    async with store(standin, tmp_path / "scratch", source=account) as gcs:
        with pytest.raises(StateUnavailable) as refusal:
            await gcs.check()

    assert refusal.value.detail == "files: no token, HTTP 400 (invalid_grant)"


async def test_the_machine_tells_its_token(standin: Standin, tmp_path: Path) -> None:
    standin.tokens = set()
    async with store(standin, tmp_path, source=Machine(standin.url)) as gcs:
        await gcs.check()
        standin.is_google = False
        standin.tokens.clear()
        with pytest.raises(StateUnavailable, match="unavailable") as refusal:
            await gcs.check()

    assert refusal.value.detail == "files: what answers as the metadata server is not Google's"


async def test_a_token_is_fetched_again_before_it_ends(standin: Standin) -> None:
    standin.tokens = set()
    now = [0.0]
    tokens = Tokens(Machine(standin.url), clock=lambda: now[0])
    fetched = []
    async with aiohttp.ClientSession() as session:
        for now[0] in (0.0, 3_000.0, 3_359.0, 3_361.0):
            fetched.append((await tokens.headers(session))["Authorization"])

    assert [one == fetched[0] for one in fetched] == [True, True, True, False]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"client_email": "a", "private_key": "no key"}'])
def test_a_file_that_is_no_account_is_refused_without_its_content(tmp_path: Path, text: str) -> None:
    path = tmp_path / "account.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="not the JSON key") as refusal:
        ServiceAccount.read(path)

    assert "no key" not in refusal.value.message
    with pytest.raises(ConfigurationError, match="cannot be read"):
        ServiceAccount.read(tmp_path / "absent.json")


async def test_the_settings_open_it_and_a_bucket_that_is_not_there_is_refused(
    standin: Standin, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        files = Files(
            kind="gcs", path=tmp_path, bucket=standin.bucket, endpoint_url=standin.url, anonymous=True
        )
        opened = await open_blobs(stack, files)
        await opened.write(FILE, megabytes(1), limit=MIB)
        assert standin.objects == {FILE: content(1)}

        absent = files.model_copy(update={"bucket": "no-such-bucket"})
        with pytest.raises(ConfigurationError, match=r"bucket no-such-bucket cannot be used .*HTTP 404"):
            await open_blobs(stack, absent)
