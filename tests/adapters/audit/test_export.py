"""Every record comes to every destination, at least once and in order, whatever fails on the way; and nothing
waits for it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import Any

import pytest
from psycopg import sql
from tests.adapters.audit.collector import Collector, attributes, running_collector
from tests.adapters.audit.test_lists import turn
from tests.adapters.audit.test_log import HOSTILE
from tests.link import Link
from tests.patience import PATIENT_SECONDS
from tests.postgres import Postgres

from regate_adapters.audit.export import exporter as exporting_module
from regate_adapters.audit.export.cursors import Cursor, writer_of
from regate_adapters.audit.export.exporter import Destination, Exporter
from regate_adapters.audit.export.otlp import OtlpDestination
from regate_adapters.audit.export.postgres import PostgresDestination
from regate_adapters.audit.export.source import RecordSource
from regate_adapters.audit.log import SegmentedAuditLog
from regate_adapters.audit.reading import read
from regate_adapters.audit.segments import segments_in
from regate_adapters.testing.ports import free_port

Make = Callable[[str], Destination]


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for new records and try again at once."""
    for name in ("_POLL_SECONDS", "_FIRST_DELAY_SECONDS", "_MAX_DELAY_SECONDS"):
        monkeypatch.setattr(exporting_module, name, 0.01)


@asynccontextmanager
async def exporting(
    directory: Path,
    make: Make,
    *,
    written: Callable[[SegmentedAuditLog], int] = lambda log: log.last_written,
    **options: Any,
) -> AsyncIterator[tuple[SegmentedAuditLog, Exporter]]:
    """A log whose records are exported to one destination."""
    async with (
        SegmentedAuditLog.open(directory, durable=False, **options) as log,
        asyncio.TaskGroup() as group,
    ):
        writer = writer_of(directory, is_new=not log.last_written)
        cursor = Cursor(directory, "there", writer)
        exporter = Exporter("there", directory, make(writer), cursor, written=lambda: written(log))
        task = group.create_task(exporter.work(), name="exporting")
        try:
            yield log, exporter
        finally:
            task.cancel()


async def until(holds: Callable[[], object]) -> None:
    """Return as soon as something that another task is at has come about."""
    async with asyncio.timeout(PATIENT_SECONDS):
        while not holds():
            await asyncio.sleep(0.01)


async def all_exported(log: SegmentedAuditLog, exporter: Exporter) -> None:
    await until(lambda: log.last_written and not exporter.behind)


def otlp(collector: Collector) -> Make:
    return lambda writer: OtlpDestination(collector.url, writer=writer, authorization="Bearer secret")


async def record_some(log: SegmentedAuditLog, count: int = 20) -> None:
    for number in range(count):
        await log.record({"kind": "decisions", "request_id": f"req_{number}", "padding": "x" * 100})


# ---------------------------------------------------------------- the source


async def written(directory: Path, *records: dict[str, Any], **options: Any) -> int:
    async with SegmentedAuditLog.open(directory, durable=False, **options) as log:
        for record in records:
            await log.record(record)
        return log.last_written


def all_of(source: RecordSource, *, up_to: int) -> list[Any]:
    found = []
    while batch := source.more(up_to=up_to):
        found += batch
    source.close()
    return found


@pytest.mark.parametrize("after", [0, 1, 7, 39, 40])
async def test_records_after_a_number_come_with_their_lists_whole(directory: Path, after: int) -> None:
    turns = [turn(number) for number in range(1, 41)]
    await written(directory, *turns, rotate_bytes=20_000)
    found = all_of(RecordSource(directory, after=after), up_to=40)

    assert [one.seq for one in found] == list(range(after + 1, 41))
    assert [json.loads(one.text)["batch"] for one in found] == [
        json.loads(json.dumps(one["batch"])) for one in turns[after:]
    ]


async def test_nothing_is_read_that_may_still_be_taken_back(directory: Path) -> None:
    await written(directory, *[turn(1)] * 5)
    source = RecordSource(directory, after=0)

    assert [one.seq for one in source.more(up_to=3)] == [1, 2, 3]
    assert [one.seq for one in source.more(up_to=5)] == [4, 5]
    source.close()


async def test_a_batch_is_bounded_however_long_its_records_are(directory: Path) -> None:
    await written(directory, *[{"kind": "x", "padding": "x" * 200_000}] * 10, *[{"kind": "x"}] * 600)
    source = RecordSource(directory, after=0)
    sizes = [len(source.more(up_to=610)) for _ in range(6)]
    source.close()

    assert sizes[:3] == [3, 3, 3]
    assert sizes[3:] == [256, 256, 89]


async def test_segments_that_were_deleted_unexported_are_counted(directory: Path) -> None:
    last = await written(directory, *[turn(3)] * 12, rotate_bytes=1_000)
    first, second, third, *_ = segments_in(directory)
    for segment in (first, second):
        segment.unlink()
    source = RecordSource(directory, after=0)
    found = all_of(source, up_to=last)

    assert found[0].seq == int(third.stem.removeprefix("audit-"))
    assert source.skipped == found[0].seq - 1


# ---------------------------------------------------------------- a collector


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with running_collector() as running:
        yield running


async def test_every_record_comes_once_and_in_order_and_says_who_it_is(
    directory: Path, collector: Collector
) -> None:
    async with exporting(directory, otlp(collector), rotate_bytes=1_000) as (log, exporter):
        await record_some(log)
        await all_exported(log, exporter)
    bodies = [json.loads(one["body"]["stringValue"]) for one in collector.log_records]

    assert collector.numbers == list(range(1, 21))
    assert bodies == list(read(directory))
    assert attributes(collector.log_records[3])["regate.request_id"] == "req_3"
    assert collector.requests[0].headers["authorization"] == "Bearer secret"
    assert {one["service.name"] for one in collector.resources} == {"regate"}


@pytest.mark.parametrize(
    "answers",
    [[503, 503], [429], [400], [401, 500], [301], ["cut"], ["late"], ["cut", 503, "late", "late"]],
    ids=str,
)
async def test_what_is_not_taken_comes_again_until_it_is(
    directory: Path, collector: Collector, answers: list[int | str]
) -> None:
    collector.answers = list(answers)
    collector.headers = {"Retry-After": "0", "Location": "/elsewhere"}
    async with exporting(directory, otlp(collector)) as (log, exporter):
        await record_some(log)
        await all_exported(log, exporter)

    assert collector.first_times == list(range(1, 21))
    assert (exporter.failures, exporter.exported) == (len(answers), 20)


async def test_a_collector_that_is_away_is_waited_for_and_gets_all_of_it(directory: Path) -> None:
    port = free_port()
    absent = Collector(url=f"http://127.0.0.1:{port}/v1/logs")
    async with exporting(directory, otlp(absent)) as (log, exporter):
        await record_some(log)
        await until(lambda: exporter.failures > 2)
        assert exporter.behind == 20
        async with running_collector(port) as collector:
            await all_exported(log, exporter)

    assert collector.numbers == list(range(1, 21))


async def test_what_a_collector_rejects_for_good_is_counted_and_not_sent_again(
    directory: Path, collector: Collector
) -> None:
    collector.rejected = 1
    async with exporting(directory, otlp(collector)) as (log, exporter):
        await log.record({"kind": "x"})
        await all_exported(log, exporter)

    assert (exporter.refused, exporter.exported, collector.numbers) == (1, 0, [1])


async def test_an_export_goes_on_where_it_was_and_a_new_log_begins_anew(
    directory: Path, collector: Collector
) -> None:
    for _ in range(2):
        async with exporting(directory, otlp(collector)) as (log, exporter):
            await record_some(log, 5)
            await all_exported(log, exporter)
    assert collector.numbers == list(range(1, 11))
    for segment in segments_in(directory):
        segment.unlink()
    async with exporting(directory, otlp(collector)) as (log, exporter):
        await record_some(log, 3)
        await all_exported(log, exporter)

    assert collector.numbers[10:] == [1, 2, 3]
    assert len({one["service.instance.id"] for one in collector.resources}) == 2


async def test_what_was_recorded_until_the_end_is_exported_before_it(
    directory: Path, collector: Collector
) -> None:
    for _ in range(3):
        async with exporting(directory, otlp(collector)) as (log, _):
            await record_some(log, 300)

    assert collector.first_times == list(range(1, 901))


async def test_what_was_recorded_while_it_looked_for_more_is_exported_before_the_end(
    directory: Path, collector: Collector
) -> None:
    is_held, looking, go_on = Event(), Event(), Event()

    def written(log: SegmentedAuditLog) -> int:
        """What a look goes by, which the thread that reads asks for; once it is held, until it may go on."""
        found = log.last_written
        if is_held.is_set() and current_thread() is not main_thread():
            looking.set()
            go_on.wait(PATIENT_SECONDS)
        return found

    async with exporting(directory, otlp(collector), written=written) as (log, exporter):
        await record_some(log, 1)
        await all_exported(log, exporter)
        is_held.set()
        await until(looking.is_set)
        await record_some(log, 4)
        asyncio.get_running_loop().call_soon(go_on.set)  # when the exporter is told to end

    assert collector.first_times == [1, 2, 3, 4, 5]


async def test_what_has_just_been_read_at_the_end_is_exported_before_it(
    directory: Path, collector: Collector
) -> None:
    is_held, looking, go_on = Event(), Event(), Event()

    def written(log: SegmentedAuditLog) -> int:
        """What a look goes by: once it is held, what is there when it may go on."""
        if is_held.is_set() and current_thread() is not main_thread():
            looking.set()
            go_on.wait(PATIENT_SECONDS)
        return log.last_written

    async with exporting(directory, otlp(collector), written=written) as (log, exporter):
        (task,) = (one for one in asyncio.all_tasks() if one.get_name() == "exporting")
        await record_some(log, 1)
        await all_exported(log, exporter)
        is_held.set()
        await until(looking.is_set)
        await record_some(log, 4)
        reading = exporter._reading
        assert reading is not None
        reading.add_done_callback(lambda _: task.cancel())
        go_on.set()
        await asyncio.wait([task])

    assert collector.first_times == [1, 2, 3, 4, 5]


async def test_a_destination_that_does_not_answer_keeps_no_gateway_from_ending(
    directory: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting_module, "_LAST_SECONDS", 0.2)
    async with Link(int(collector.url.split(":")[2].partition("/")[0])) as link:
        link.become("swallow")
        there = Collector(url=f"http://127.0.0.1:{link.port}/v1/logs")
        async with exporting(directory, otlp(there)) as (log, exporter):
            await record_some(log, 5)

    assert (exporter.behind, collector.log_records) == (5, [])


@pytest.mark.parametrize("cursor", ["", "{}", "[]", '{"seq": 3}', '{"writer": "x", "seq": 3}', '{"seq": "3"'])
async def test_a_cursor_that_says_nothing_sends_everything_again(
    directory: Path, collector: Collector, cursor: str
) -> None:
    await written(directory, *[{"kind": "x"}] * 5)
    (directory / "export-there.json").write_text(cursor)
    async with exporting(directory, otlp(collector)) as (log, exporter):
        await all_exported(log, exporter)

    assert collector.numbers == [1, 2, 3, 4, 5]


_EXPORT_UNTIL_KILLED = """
import asyncio, pathlib, sys
from regate_adapters.audit.export import exporter as module
from regate_adapters.audit.export.cursors import Cursor, writer_of
from regate_adapters.audit.export.exporter import Exporter
from regate_adapters.audit.export.otlp import OtlpDestination
from regate_adapters.audit.log import SegmentedAuditLog

module._POLL_SECONDS = 0.01

async def main(directory, url):
    async with SegmentedAuditLog.open(directory, durable=False, rotate_bytes=20_000) as log:
        writer = writer_of(directory, is_new=not log.last_written)
        exporter = Exporter("there", directory, OtlpDestination(url, writer=writer),
                            Cursor(directory, "there", writer), written=lambda: log.last_written)
        async with asyncio.TaskGroup() as group:
            group.create_task(exporter.work(), name="exporting")
            while True:
                await log.record({"kind": "x", "padding": "x" * 300})

asyncio.run(main(pathlib.Path(sys.argv[1]), sys.argv[2]))
"""


async def test_killed_again_and_again_no_record_is_missing_and_none_out_of_order(
    directory: Path, collector: Collector
) -> None:
    for _ in range(4):
        before = len(collector.requests)
        process = subprocess.Popen(
            [sys.executable, "-c", _EXPORT_UNTIL_KILLED, str(directory), collector.url]
        )
        try:
            await until(lambda before=before: len(collector.requests) > before + 3)
        finally:
            process.kill()
            process.wait()
    async with exporting(directory, otlp(collector)) as (log, exporter):
        await all_exported(log, exporter)
    sent = {int(attributes(one)["regate.seq"]): one["body"]["stringValue"] for one in collector.log_records}

    assert collector.first_times == list(range(1, log.last_written + 1))
    assert [json.loads(sent[seq]) for seq in sorted(sent)] == list(read(directory))
    assert len({one["service.instance.id"] for one in collector.resources}) == 1


# ---------------------------------------------------------------- PostgreSQL


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    with postgres.database() as name:
        yield name


def table(postgres: Postgres, database: str, columns: str = "seq") -> list[tuple[Any, ...]]:
    query = sql.SQL("SELECT {} FROM regate_audit ORDER BY writer, seq").format(sql.SQL(columns))  # type: ignore[arg-type] # the test's own
    return postgres.execute(query, database=database)


def into(url: str, name: str = "regate_audit") -> Make:
    return lambda writer: PostgresDestination(url, table=name, writer=writer)


async def test_every_record_is_a_row_with_what_is_asked_for(
    directory: Path, postgres: Postgres, database: str
) -> None:
    async with exporting(directory, into(postgres.url(database))) as (log, exporter):
        await record_some(log)
        await all_exported(log, exporter)
    rows = table(postgres, database, "seq, digest, request_id, record, at")
    records = list(read(directory))

    assert [row[0] for row in rows] == list(range(1, 21))
    assert [row[1] for row in rows][:-1] == [record["prev"] for record in records[1:]]
    assert [row[2:4] for row in rows] == [(record["request_id"], record) for record in records]


@pytest.mark.parametrize("value", HOSTILE, ids=ascii)
async def test_no_value_of_a_record_stops_the_export(
    directory: Path, postgres: Postgres, database: str, value: Any
) -> None:
    async with exporting(directory, into(postgres.url(database))) as (log, exporter):
        await log.record({"kind": "x", "subject": value, "nested": {f"key {value}": [value]}})
        await all_exported(log, exporter)
    ((text,),) = table(postgres, database, "record::text")

    assert exporter.failures == 0
    assert json.loads(text)["nested"] == {f"key {value}": [value]}


async def test_records_that_come_again_are_the_same_rows(
    directory: Path, postgres: Postgres, database: str
) -> None:
    for _ in range(2):
        async with exporting(directory, into(postgres.url(database))) as (log, exporter):
            await record_some(log, 5)
            await all_exported(log, exporter)
        (directory / "export-there.json").unlink()

    assert table(postgres, database) == [(seq,) for seq in range(1, 11)]


async def test_another_log_under_the_same_name_overwrites_nothing_and_stops(
    directory: Path, tmp_path: Path, postgres: Postgres, database: str
) -> None:
    async with exporting(directory, into(postgres.url(database))) as (log, exporter):
        await record_some(log, 3)
        await all_exported(log, exporter)
    before = table(postgres, database, "seq, digest")
    other = tmp_path / "other"
    await written(other, *[{"kind": "another"}] * 3)
    (other / "writer").write_text((directory / "writer").read_text())
    async with exporting(other, into(postgres.url(database))) as (_, exporter):
        await until(lambda: exporter.failures > 2)
        assert exporter.behind == 3

    assert table(postgres, database, "seq, digest") == before


async def test_two_gateways_share_a_table(
    directory: Path, tmp_path: Path, postgres: Postgres, database: str
) -> None:
    for place in (directory, tmp_path / "other"):
        async with exporting(place, into(postgres.url(database))) as (log, exporter):
            await record_some(log, 3)
            await all_exported(log, exporter)

    assert table(postgres, database) == [(1,), (2,), (3,)] * 2


async def test_a_database_that_goes_away_in_the_middle_gets_all_of_it(
    directory: Path, postgres: Postgres, database: str
) -> None:
    async with Link(postgres.port) as link:
        url = postgres.url(database, port=link.port)
        async with exporting(directory, into(url)) as (log, exporter):
            await record_some(log, 5)
            await all_exported(log, exporter)
            link.become("cut")
            await record_some(log, 5)
            await until(lambda: exporter.failures > 1)
            link.become("pass")
            await all_exported(log, exporter)

    assert table(postgres, database) == [(seq,) for seq in range(1, 11)]


async def test_a_table_of_another_schema_that_an_operator_made_is_used(
    directory: Path, postgres: Postgres, database: str
) -> None:
    async with exporting(directory, into(postgres.url(database))) as (log, exporter):
        await record_some(log, 1)
        await all_exported(log, exporter)
    postgres.execute(sql.SQL("CREATE SCHEMA kept"), database=database)
    postgres.execute(sql.SQL("CREATE TABLE kept.audit (LIKE regate_audit INCLUDING ALL)"), database=database)
    (directory / "export-there.json").unlink()
    async with exporting(directory, into(postgres.url(database), "kept.audit")) as (log, exporter):
        await all_exported(log, exporter)

    assert postgres.execute(sql.SQL("SELECT seq FROM kept.audit"), database=database) == [(1,)]
