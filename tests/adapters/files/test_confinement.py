"""What a reader that a file has taken over can do: nothing, by several mechanisms, each of which holds
where the others are lacking.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from tests.adapters.files import hostile_reader

from regate_adapters.files.readers.extract import WorkerExtractor

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(sys.platform != "linux", reason="the mechanisms are Linux's"),
]

ROOT = os.geteuid() == 0


@asynccontextmanager
async def readers(*options: str) -> AsyncIterator[WorkerExtractor]:
    async with WorkerExtractor(program=(str(Path(hostile_reader.__file__)), *options)) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def taken_over() -> AsyncIterator[WorkerExtractor]:
    async with readers() as started:
        yield started


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Where somebody listens who trusts whatever comes from this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory as the gateway's, with what is another tenant's in it. Its name is short enough for
    a socket.
    """
    (tmp_path / "file").write_text("another tenant's words")
    return tmp_path


async def tried(extractor: WorkerExtractor, attempt: str) -> str:
    return await extractor.text(b"", filename=attempt, tenant="acme")


REFUSED = {"EPERM", "EACCES"}


async def test_everything_is_in_force_on_this_kernel(taken_over: WorkerExtractor) -> None:
    assert taken_over._server is not None
    assert taken_over._server.confinement["lacking"] == {}


@pytest.mark.parametrize(
    "attempt",
    [
        *(
            "connect {port}",
            "connect_unix {data}/socket",
            "listen",
            "read /etc/passwd",
            "read {data}/file",
            "read /proc/self/environ",
        ),
        *(
            "write {data}/new",
            "write {data}/file",
            "write /dev/shm/new",
            "make_directory {data}/made",
            "remove {data}/file",
        ),
        *(
            "fork",
            "spawn",
            "become",
            "stop_parent",
            "signal_pid {gateway}",
            "signal_all",
            "trace_parent",
            "read_memory_of_parent",
        ),
        *("raise_limits", "limit_parent", "become_root"),
    ],
)
async def test_a_reader_that_was_taken_over_can_do_nothing(
    taken_over: WorkerExtractor, data: Path, port: int, attempt: str
) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(data / "socket"))
        listening.listen()

        assert await tried(taken_over, attempt.format(port=port, data=data, gateway=os.getpid())) in REFUSED


async def test_a_reader_has_no_descriptor_but_its_file_and_its_answer(taken_over: WorkerExtractor) -> None:
    assert await tried(taken_over, "use_descriptors") == "EBADF"


async def test_the_attempts_succeed_where_nothing_holds(data: Path, port: int) -> None:
    async with readers(*hostile_reader.MECHANISMS) as extractor:
        done = [
            await tried(extractor, one)
            for one in (f"connect {port}", f"read {data}/file", "fork", "listen", "signal_pid 1")
        ]

    assert done == ["done", "done", "done", "done", "done" if ROOT else "EPERM"]


@pytest.mark.parametrize(
    ("lacking", "attempts"),
    [
        (
            ("network_namespace", "landlock"),
            ("connect {port}", "read /etc/passwd", "write {data}/new", "fork", "signal_pid {gateway}"),
        ),
        (
            ("network_namespace", "system_calls"),
            ("connect {port}", "read /etc/passwd", "write {data}/new", "signal_pid {gateway}"),
        ),
        (("landlock", "system_calls"), ("connect {port}",)),
        (
            ("system_calls",),
            (
                "connect {port}",
                "read {data}/file",
                "remove {data}/file",
                "become",
                "signal_pid {gateway}",
                "become_root",
            ),
        ),
    ],
    ids=", ".join,
)
async def test_what_the_kernel_lacks_is_said_and_the_rest_holds(
    data: Path,
    port: int,
    caplog: pytest.LogCaptureFixture,
    lacking: tuple[str, ...],
    attempts: tuple[str, ...],
) -> None:
    with caplog.at_level(logging.INFO, logger="regate.files"):
        async with readers(*lacking) as extractor:
            outcomes = [
                await tried(extractor, one.format(port=port, data=data, gateway=os.getpid()))
                for one in attempts
            ]
    (said,) = [record for record in caplog.records if record.message == "readers_confined"]

    assert "done" not in outcomes
    assert (said.levelname, set(said.lacking)) == ("WARNING", set(lacking))  # type: ignore[attr-defined]


@pytest.mark.skipif(not ROOT, reason="only root can be another user")
async def test_an_ordinary_user_s_readers_are_held_as_root_s_are(data: Path, port: int) -> None:
    (data / "own").write_text("the gateway's own")
    (data / "own").chmod(0o644)
    async with readers("--as-user") as extractor:
        assert extractor._server is not None
        confinement = extractor._server.confinement
        attempts = (
            f"connect {port}",
            f"read {data}/own",
            "write /dev/shm/new",
            "fork",
            "stop_parent",
            "signal_all",
            "become_root",
        )
        outcomes = {await tried(extractor, one) for one in attempts}

    assert confinement["lacking"] == {}
    assert outcomes <= REFUSED


async def test_what_one_reader_does_is_not_there_for_the_next(taken_over: WorkerExtractor) -> None:
    outcomes = await asyncio.gather(*[tried(taken_over, "use_descriptors") for _ in range(8)])

    assert set(outcomes) == {"EBADF"}
