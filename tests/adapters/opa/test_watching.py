"""A policy is in force whole or not at all, however it is written: at no stop of any writer is a
caller let in whom old and new both deny.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.adapters.opa.policies import write_policies
from tests.adapters.opa.writers import (
    Writer,
    backwards,
    base_then_overlay,
    copied,
    files_of,
    list_first,
    list_last,
    projected,
    relinked,
    removed_first,
    renamed,
    synchronized,
)

from regate_adapters.opa.engine import OpaEngine
from regate_adapters.opa.policies.listing import Fingerprint, digest_list
from regate_adapters.opa.policies.origins import Candidate, PolicyDirectory
from regate_adapters.opa.policies.source import BrokenPolicy, fingerprint, read_source
from regate_adapters.opa.policies.watching import Found, WatchedPolicies
from regate_adapters.opa.server.process import ManagedOpa
from regate_orchestrator.values import JsonObject

SETTLING = "regate_adapters.opa.policies.watching"
ASKED: JsonObject = {"principal": {"tenant": "acme", "roles": ["contractor"]}, "chunk": {"tenant": "acme"}}

# Both deny contractors, each in another file: any half of one with a half of the other lets them in, and so
# does either without its overlay.
ALLOW = (
    "package regate.chunk\n\ndefault allow := false\n\nallow if {\n\tinput.chunk.tenant == "
    "input.principal.tenant\n\tnot denied\n}\n\n"
)
OLD = {
    "chunk/chunk.rego": ALLOW
    + "denied if data.regate.custom.chunk.deny\n\ndenied if data.regate.custom.store.deny\n",
    "custom/chunk/chunk.rego": (
        'package regate.custom.chunk\n\ndeny if "contractor" in input.principal.roles\n'
    ),
}
NEW = {
    "chunk/chunk.rego": ALLOW
    + "denied if data.regate.custom.chunk.deny\n\ndenied if data.regate.custom.store.deny\n",
    "custom/chunk/chunk.rego": 'package regate.custom.chunk\n\ndeny if "intern" in input.principal.roles\n',
    "extra/store.rego": 'package regate.custom.store\n\ndeny if "contractor" in input.principal.roles\n',
}

in_place = {
    "copied in order": copied(sorted),
    "copied backwards": copied(backwards),
    "copied with the list first": copied(list_first),
    "copied with the list last": copied(list_last),
    "removed and copied, the list first": removed_first(list_first),
    "removed and copied, the list last": removed_first(list_last),
    "removed and copied backwards": removed_first(backwards),
    "synchronized": synchronized,
}
at_once = {"renamed": renamed, "relinked": relinked}


def listed(folder: Path) -> Path:
    (folder / ".digests").write_bytes(
        digest_list({name: (folder / name).read_bytes() for name in files_of(folder)})
    )
    return folder


@dataclass
class Place:
    """A directory that is watched, with an OPA on it."""

    live: Path
    process: ManagedOpa
    engine: OpaEngine

    async def denies(self) -> bool:
        return (await self.engine.ask("regate/chunk/allow", ASKED)).value is False


@asynccontextmanager
async def watched(live: Path, opa: Path) -> AsyncIterator[Place]:
    """A managed OPA that looks when it is told to."""
    async with (
        ManagedOpa(live, opa=opa) as process,
        OpaEngine(process.address, schemas={}, deadline_s=20) as engine,
    ):
        yield Place(live, process, engine)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return write_policies(tmp_path / "sources" / "one", OLD)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return write_policies(tmp_path / "sources" / "two", NEW)


@pytest.fixture
def live(tmp_path: Path) -> Path:
    return tmp_path / "site" / "policy"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "regate_adapters.opa.server.process._RELOAD_SECONDS", 30
    )  # or an OPA that is slow to load a change would be restarted


def done(writer: Iterator[None]) -> None:
    for _ in writer:
        pass


# ---------------------------------------------------------------- with a list of digests


@pytest.mark.parametrize("write", [*in_place.values(), *at_once.values()], ids=[*in_place, *at_once])
async def test_policy_with_a_list_is_never_taken_in_part_however_long_its_writer_stops(
    write: Writer, old: Path, new: Path, live: Path, opa: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{SETTLING}._STILL_SECONDS", 0)  # every stop is longer than that
    monkeypatch.setattr(f"{SETTLING}._PATIENCE_SECONDS", 0)
    done(copied(sorted)(listed(old), live))
    whole = {read_source(old).revision, read_source(new).revision}
    stops, wrong = 0, []
    async with watched(live, opa) as place:
        for _ in write(listed(new), live):
            stops += 1
            await place.process.look()
            if not await place.denies() or place.process.revision not in whole:
                wrong.append(stops)
        at_the_end = place.process.revision, place.process.problem

    assert (wrong, at_the_end, stops >= 2) == ([], (read_source(new).revision, None), True)


async def test_list_that_was_seen_once_is_demanded_from_then_on(
    old: Path, new: Path, live: Path, opa: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{SETTLING}._PATIENCE_SECONDS", 0)
    done(copied(sorted)(listed(old), live))
    async with watched(live, opa) as place:
        (live / ".digests").unlink()
        await place.process.look()
        without = place.process.problem
        done(copied(sorted)(new, live))
        await place.process.look()
        changed, revision = place.process.problem, place.process.revision
        done(copied(sorted)(listed(new), live))
        await place.process.look()

    assert (without, changed) == (
        f"{live} has no .digests any more: write one, or restart to take the policies without it",
    ) * 2
    assert (revision, place.process.revision, place.process.problem) == (
        read_source(old).revision,
        read_source(new).revision,
        None,
    )


async def test_list_that_comes_later_is_demanded_too(
    old: Path, live: Path, opa: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{SETTLING}._PATIENCE_SECONDS", 0)
    done(copied(sorted)(old, live))
    async with watched(live, opa) as place:
        listed(live)
        await place.process.look()
        taken = place.process.problem
        (live / ".digests").unlink()
        await place.process.look()

    assert (taken, "has no .digests any more" in (place.process.problem or "")) == (None, True)


async def test_opa_does_not_start_on_a_part_of_what_is_listed(old: Path, opa: Path) -> None:
    listed(old)
    (old / "custom" / "chunk" / "chunk.rego").unlink()
    with pytest.raises(
        BrokenPolicy, match=r"is not what its \.digests lists: custom/chunk/chunk\.rego is missing"
    ):
        await ManagedOpa(old, opa=opa).__aenter__()


# ---------------------------------------------------------------- without one


async def test_policy_that_is_being_written_is_taken_only_when_its_writer_is_still(
    old: Path, new: Path, live: Path, opa: Path
) -> None:
    done(copied(sorted)(old, live))
    writer = copied(base_then_overlay)(new, live)
    origin = PolicyDirectory(live)
    taken: list[tuple[bool, Found]] = []
    finished = False

    def glance() -> Fingerprint:
        """Between every two looks the writer does one thing more."""
        nonlocal finished
        if not finished:
            finished = next(writer, "end") == "end"
        return origin.fingerprint()

    def build() -> Candidate | None:
        return origin.build(live.parent / "bundle.tar.gz", opa=opa, gateway_token="t", required=())

    async def conclude(found: Found) -> None:
        taken.append((finished, found))

    await WatchedPolicies(glance, build).look(conclude)

    ((whole, found),) = taken
    assert isinstance(found, Candidate)
    assert (whole, found.revision) == (True, read_source(new).revision)


async def test_policy_that_was_there_only_while_it_was_built_is_not_taken(
    old: Path, new: Path, live: Path, opa: Path
) -> None:
    live.parent.mkdir()
    live.symlink_to(old)
    origin = PolicyDirectory(live)
    built: list[Candidate | None] = []
    taken: list[Found] = []

    def build() -> Candidate | None:
        """The first time the link leads elsewhere for as long as that takes."""
        if not built:
            done(relinked(new, live))
        built.append(origin.build(live.parent / "bundle.tar.gz", opa=opa, gateway_token="t", required=()))
        done(relinked(old, live))
        return built[-1]

    async def conclude(found: Found) -> None:
        taken.append(found)

    await WatchedPolicies(origin.fingerprint, build).look(conclude)

    assert [getattr(one, "revision", one) for one in (*built, *taken)] == [
        read_source(new).revision,
        read_source(old).revision,
        read_source(old).revision,
    ]


@pytest.mark.parametrize(
    "write",
    [removed_first(base_then_overlay), removed_first(backwards), renamed, relinked],
    ids=["base first", "overlay first", "mv", "ln"],
)
async def test_policy_that_has_lost_a_file_waits_for_it_and_logs_no_error(
    write: Writer,
    old: Path,
    new: Path,
    live: Path,
    opa: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(f"{SETTLING}._PATIENCE_SECONDS", 3600)
    caplog.set_level(logging.INFO, "regate.opa")
    done(copied(sorted)(old, live))
    async with watched(live, opa) as place, asyncio.TaskGroup() as tasks:
        seen, looking = fingerprint(live), None
        for _ in (writer := write(new, live)):
            if set(files_of(old)) <= set(files_of(live)):
                break  # from here on nothing but stillness tells what is whole
            if fingerprint(live) != seen:
                seen, before = fingerprint(live), waiting(caplog)
                looking = looking or tasks.create_task(place.process.look())
                await until(lambda before=before: waiting(caplog) > before)  # type: ignore[misc]
            assert await place.denies()
        done(writer)
        await (looking or place.process.look())
        denies = await place.denies()

    assert (denies, place.process.revision, place.process.problem) == (True, read_source(new).revision, None)
    assert [record.message for record in caplog.records if record.levelno > logging.WARNING] == []


async def test_file_that_is_taken_away_for_good_is_gone_in_the_end(
    new: Path, live: Path, opa: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(f"{SETTLING}._PATIENCE_SECONDS", 0.5)
    done(copied(sorted)(new, live))
    async with watched(live, opa) as place:
        (live / "custom" / "chunk" / "chunk.rego").unlink()
        await place.process.look()

        assert (place.process.revision, place.process.problem) == (read_source(live).revision, None)
    assert [record.__dict__["gone"] for record in caplog.records if record.message == "policy_changed"] == [
        ["custom/chunk/chunk.rego"]
    ]


async def test_file_of_the_same_size_and_time_is_another_one(old: Path, live: Path, opa: Path) -> None:
    done(copied(sorted)(old, live))
    rule = live / "custom" / "chunk" / "chunk.rego"
    async with watched(live, opa) as place:
        before = rule.stat()
        rule.write_text(rule.read_text().replace("contractor", "freelancer"))
        os.utime(rule, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (rule.stat().st_size, rule.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        await place.process.look()

        assert not await place.denies()


# ---------------------------------------------------------------- a ConfigMap


@pytest.mark.parametrize("with_list", [True, False])
async def test_config_map_is_one_or_the_other_at_every_stop(
    with_list: bool, old: Path, new: Path, live: Path, opa: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{SETTLING}._STILL_SECONDS", 0)
    monkeypatch.setattr(f"{SETTLING}._PATIENCE_SECONDS", 0)
    if with_list:
        listed(old), listed(new)
    live.mkdir(parents=True)
    done(projected(old, live))
    whole = {read_source(old).revision, read_source(new).revision}
    assert read_source(live).files == read_source(old).files
    revisions = set()
    async with watched(live, opa) as place:
        for write in (projected(new, live), projected(old, live)):
            for _ in write:
                await place.process.look()
                revisions.add(place.process.revision)
                assert await place.denies()
                assert place.process.problem is None

    assert revisions == whole


# ---------------------------------------------------------------- ordinary redeploys


async def test_what_reads_the_policies_in_force_never_reads_those_that_are_being_written(
    old: Path, new: Path, live: Path, opa: Path
) -> None:
    done(copied(sorted)(old, live))
    async with watched(live, opa) as place:
        done(copied(sorted)(new, live))
        before = read_source(place.process.directory).files
        for generation in range(4):
            (live / "more.rego").write_text(f"package regate.more{generation}\n")
            await place.process.look()
        after = read_source(place.process.directory).files
        kept = [path for path in place.process.directory.parent.glob("content-*") if path.is_dir()]

    assert (before, after, len(kept)) == (read_source(old).files, read_source(live).files, 2)


@pytest.mark.parametrize("write", [*in_place.values(), *at_once.values()], ids=[*in_place, *at_once])
async def test_redeploy_is_taken_by_itself_and_logs_no_error(
    write: Writer, old: Path, new: Path, live: Path, opa: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done(copied(sorted)(listed(old), live))
    async with watched(live, opa) as place, asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(place.process.watch())
        for _ in write(listed(new), live):
            await asyncio.sleep(0)
        await until(lambda: place.process.revision == read_source(new).revision)
        answered = await place.denies()
        watching.cancel()

    assert (answered, place.process.problem) == (True, None)
    assert [record.message for record in caplog.records if record.levelno > logging.WARNING] == []


def waiting(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.message == "policy_awaited" for record in caplog.records)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds; how long that takes is the machine's."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)
