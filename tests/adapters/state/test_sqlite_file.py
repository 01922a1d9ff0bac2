"""What is particular to a database file: who may read it, which files are refused, and what survives
when things break.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.adapters.state.samples import ANN, PATIENT_SECONDS, response_of, waiting

from regate_adapters.state.store import SqlStateStore
from regate_orchestrator.errors import ConfigurationError, StateUnavailable
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.rows import Page
from regate_orchestrator.values import ResponseId

_SAVE_UNTIL_KILLED = """
import asyncio, itertools, sys
from regate_adapters.state.store import SqlStateStore
from tests.adapters.state.samples import ANN, response_of

async def main():
    async with SqlStateStore.open(sys.argv[1], deadline_s=60) as store:
        for number in itertools.count():
            await store.responses.save(response_of(ANN, f"resp_{number}", items=20))
            print(number, flush=True)

asyncio.run(main())
"""


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the database's write lock, as another program might."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let no file grow past this size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_database_is_readable_by_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.touch(mode=0o644)
    async with SqlStateStore.open(url_of(path), deadline_s=PATIENT_SECONDS) as store:
        await store.responses.save(response_of(ANN))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}


async def test_database_goes_on_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with SqlStateStore.open(url_of(path), deadline_s=PATIENT_SECONDS) as store:
        await store.responses.save(response_of(ANN))
    async with SqlStateStore.open(url_of(path), deadline_s=PATIENT_SECONDS) as store:
        assert await store.responses.get(ANN, ResponseId("resp_1")) == response_of(ANN)


def change(path: Path, statement: str) -> None:
    other = sqlite3.connect(path)
    with other:
        other.execute(statement)
    other.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE schema_revision SET revision = 'of_tomorrow'",
        "DELETE FROM schema_revision",
        "DROP TABLE schema_revision",
    ],
)
async def test_database_of_a_later_program_is_refused(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "state.db"
    async with SqlStateStore.open(url_of(path), deadline_s=PATIENT_SECONDS):
        pass
    change(path, statement)
    with pytest.raises(ConfigurationError, match=r"state\.url"):
        async with SqlStateStore.open(url_of(path), deadline_s=PATIENT_SECONDS):
            pass


async def test_database_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    change(path, "CREATE TABLE theirs (id)")
    with pytest.raises(ConfigurationError, match="something else"):
        async with SqlStateStore.open(url_of(path), deadline_s=PATIENT_SECONDS):
            pass


async def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"certainly no database " * 500)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        async with SqlStateStore.open(url_of(path), deadline_s=PATIENT_SECONDS):
            pass


@pytest.mark.parametrize(
    "url",
    [
        "",
        "state.db",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:x?uri=true",
        "sqlite:////no/such/folder/state.db",
        "mysql://host/x",
    ],
)
async def test_url_that_cannot_serve_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"state\.url"):
        async with SqlStateStore.open(url, deadline_s=PATIENT_SECONDS):
            pass


async def test_locked_database_refuses_writes_in_time_and_goes_on_reading(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with SqlStateStore.open(url_of(path), deadline_s=0.5) as hasty:
        store = waiting(hasty, PATIENT_SECONDS)
        await store.responses.save(response_of(ANN))
        with locked(path):
            with pytest.raises(StateUnavailable):
                await hasty.responses.save(response_of(ANN, "resp_2"))
            read = await store.responses.get(ANN, ResponseId("resp_1"))
        await store.responses.save(response_of(ANN, "resp_2"))
        assert (read, await store.responses.get(ANN, ResponseId("resp_2"))) == (
            response_of(ANN),
            response_of(ANN, "resp_2"),
        )


async def test_write_that_is_cancelled_lets_the_next_one_write(tmp_path: Path) -> None:
    gc.disable()  # so that nothing but the store itself lets go of what the cancelled write held
    try:
        async with SqlStateStore.open(url_of(tmp_path / "state.db"), deadline_s=PATIENT_SECONDS) as store:
            for number in range(60):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.0001 * number):
                        await store.responses.save(
                            response_of(ANN, "resp_cancelled", items=150, text="x" * 2_000)
                        )
                await store.responses.save(response_of(ANN, f"resp_{number}"))
            kept = (await store.responses.page(ANN, Everything(), Page(limit=100))).rows
    finally:
        gc.enable()
    assert {f"resp_{number}" for number in range(60)} <= {row.id for row in kept}


async def test_full_disk_refuses_writes_stores_nothing_and_recovers(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with SqlStateStore.open(url_of(path), deadline_s=PATIENT_SECONDS) as store:
        await store.responses.save(response_of(ANN))
        with full_disk((tmp_path / "state.db-wal").stat().st_size):
            with pytest.raises(StateUnavailable):
                await store.responses.save(response_of(ANN, "resp_2", items=200, text="x" * 1000))
            read = await store.responses.get(ANN, ResponseId("resp_1"))
        lost = await store.responses.get(ANN, ResponseId("resp_2"))
        await store.responses.save(response_of(ANN, "resp_2"))
        assert (read, lost, await store.responses.get(ANN, ResponseId("resp_2"))) == (
            response_of(ANN),
            None,
            response_of(ANN, "resp_2"),
        )


async def test_database_that_breaks_is_unavailable_and_says_nothing_of_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with SqlStateStore.open(url_of(path), deadline_s=PATIENT_SECONDS) as store:
        await store.responses.save(response_of(ANN))
        change(path, "ALTER TABLE responses RENAME TO elsewhere")
        with pytest.raises(StateUnavailable) as refusal:
            await store.responses.get(ANN, ResponseId("resp_1"))
    assert (
        "no such table" in refusal.value.detail,
        "acme" in refusal.value.detail,
        "resp_1" in refusal.value.detail,
    ) == (
        True,
        False,
        False,
    )


async def test_database_without_its_tables_fails_the_check(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with SqlStateStore.open(url_of(path), deadline_s=PATIENT_SECONDS) as store:
        await store.check()
        change(path, "DROP TABLE schema_revision")
        with pytest.raises(StateUnavailable):
            await store.check()


async def test_response_is_there_whole_after_the_process_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with subprocess.Popen(
        [sys.executable, "-c", _SAVE_UNTIL_KILLED, url_of(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(25):
            process.stdout.readline()
        process.kill()
        acknowledged = 25 + len(process.stdout.read().split())
    async with SqlStateStore.open(url_of(path), deadline_s=PATIENT_SECONDS) as store:
        listed = (await store.responses.page(ANN, Everything(), Page(limit=10_000))).rows
        rows = [await store.responses.get(ANN, row.id) for row in listed]
    whole = [row for row in rows if row is not None and row == response_of(ANN, row.id, items=20)]
    kept = {f"resp_{number}" for number in range(acknowledged)} <= {row.id for row in whole}
    assert (kept, len(whole)) == (True, len(listed))
