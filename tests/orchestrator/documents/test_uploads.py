"""How files come and go: real state and storage, a policy that the test says, and failures in the
middle of everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.orchestrator.scripted import ANN, CONTEXT, NOW, Policy, Records

from regate_adapters.files.blobs.disk import DiskBlobStore
from regate_adapters.state.store import SqlStateStore
from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.documents.uploads import FileUploads
from regate_orchestrator.errors import (
    AuditUnavailable,
    NotPermitted,
    PolicyUnavailable,
    StateUnavailable,
    TooLarge,
)
from regate_orchestrator.filters.schema import FieldSpec, RowSchema
from regate_orchestrator.ports import Answer
from regate_orchestrator.rows import FileRow
from regate_orchestrator.values import FileId, Json, JsonObject

STAMP = {"tenant": "acme", "owner": "ann"}
FIELDS = {
    name: FieldSpec(name, "string", required=True)
    for name in ("id", "filename", "purpose", "tenant", "owner")
}
DAY = 86_400


class Disk(DiskBlobStore):
    """A directory that can be told not to let go of anything."""

    stuck = False

    async def delete(self, file: FileId) -> None:
        if self.stuck:
            raise StateUnavailable("the disk")
        await super().delete(file)


class Uploads(Policy):
    """A policy that may deny one action, with a reason."""

    denied = ""

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        if document["action"] == self.denied:
            said = rule == "regate/file/deny_reasons"
            return Answer(defined=said, value=["not_today"] if said else None, revision=self.rev)
        return await super().ask(rule, document)


class Scene:
    """An intake whose policy allows all."""

    def __init__(self, root: Path, state: SqlStateStore) -> None:
        self.state = state
        self.root = root / "files"
        self.blobs = Disk(self.root)
        self.audit = Records()
        limits = {"max_bytes": 10, "max_files": 3, "max_total_bytes": 25}
        self.policy = Uploads(
            answers={"regate/file/allow": True, "regate/file/stamp": STAMP, "regate/file/limits": limits}
        )
        enforcer = Enforcer(self.policy, self.audit, {"file": RowSchema("file", FIELDS)}, lambda: self.now)
        self.now: float = NOW
        self.intake = FileUploads(
            enforcer=enforcer,
            files=state.files,
            orphaned_blobs=state.orphaned_blobs,
            blobs=self.blobs,
            most_bytes=20,
            clock=lambda: self.now,
        )

    def limit(self, **changes: Json) -> None:
        limits = self.policy.answers["regate/file/limits"]
        assert isinstance(limits, dict)
        self.policy.answers["regate/file/limits"] = limits | changes

    async def send(self, *parts: bytes, expires_in_s: int | None = None, who: Context = CONTEXT) -> FileRow:
        async def pieces() -> AsyncIterator[bytes]:
            for part in parts:
                yield part

        self.policy.answers["regate/file/stamp"] = {"tenant": who.principal.tenant, "owner": who.principal.id}
        async with self.intake.receiving(who) as incoming:
            size = await incoming.write(pieces())
            return await incoming.keep(
                filename="a.txt", size=size, purpose="user_data", expires_in_s=expires_in_s
            )

    async def orphaned(self, *, at: float) -> list[FileId]:
        """The bytes that would be collected at that time."""
        self.now, before = at, self.now
        try:
            return [blob.file_id for blob in await self.state.orphaned_blobs.due(after=None, limit=10)]
        finally:
            self.now = before

    @property
    def stored(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir())


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    clock: list[Scene] = []
    async with SqlStateStore.open(f"sqlite:///{tmp_path / 'state.db'}", clock=lambda: clock[0].now) as state:
        clock.append(Scene(tmp_path, state))
        yield clock[0]


async def test_a_file_is_kept_with_its_stamp_and_nothing_of_it_is_orphaned(scene: Scene) -> None:
    row = await scene.send(b"12345", b"67890", expires_in_s=3_600)

    assert row == FileRow(row.id, "a.txt", 10, "user_data", NOW, STAMP, NOW + 3_600)
    assert (await scene.state.files.get(ANN, row.id), scene.stored) == (row, [row.id])
    assert await scene.orphaned(at=NOW + 100 * DAY) == []


async def test_the_policy_is_asked_about_the_file_and_says_what_it_is_stamped_with(scene: Scene) -> None:
    row = await scene.send(b"x")

    rule, document = scene.policy.asked[-1]
    asked = {key: document[key] for key in ("action", "id", "filename", "purpose", "requested")}
    assert (rule, asked) == (
        "regate/file/stamp",
        {"action": "file.create", "id": row.id, "filename": "a.txt", "purpose": "user_data", "requested": {}},
    )


@pytest.mark.parametrize("action", ["file.upload", "file.create"])
async def test_a_file_that_the_policy_denies_leaves_nothing(scene: Scene, action: str) -> None:
    scene.policy.denied = action
    with pytest.raises(NotPermitted, match="not_today"):
        await scene.send(b"x")

    assert (scene.stored, await scene.orphaned(at=NOW + 100 * DAY)) == ([], [])


async def test_nothing_is_received_of_an_upload_that_the_policy_denies(scene: Scene) -> None:
    scene.policy.denied = "file.upload"
    with pytest.raises(NotPermitted):
        async with scene.intake.receiving(CONTEXT):
            pytest.fail("it was to be received")


async def test_a_file_past_the_limit_leaves_nothing(scene: Scene) -> None:
    with pytest.raises(TooLarge):
        await scene.send(b"12345678901")

    assert (scene.stored, await scene.orphaned(at=NOW + 100 * DAY)) == ([], [])


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("changes", "limit"), [({}, 10), ({"max_bytes": 30, "max_total_bytes": 90}, 20), ({"max_bytes": 0}, 0)]
)
async def test_a_file_may_have_what_the_policy_says_and_never_more_than_the_gateway_takes(
    scene: Scene, changes: dict[str, int], limit: int
) -> None:
    scene.limit(**changes)
    row = await scene.send(b"x" * limit)
    with pytest.raises(TooLarge):
        await scene.send(b"x" * (limit + 1))

    assert scene.stored == [row.id]


async def test_nobody_has_more_files_than_the_policy_says(scene: Scene) -> None:
    kept = [(await scene.send(b"x")).id for _ in range(3)]
    with pytest.raises(NotPermitted) as refusal:
        await scene.send(b"x")
    await scene.intake.remove(ANN, kept[0])
    kept[0] = (await scene.send(b"x")).id

    assert (refusal.value.code, scene.stored) == ("storage_limit_exceeded", sorted(kept))


async def test_nobody_has_more_bytes_than_the_policy_says_and_an_upload_ends_where_there_is_no_room(
    scene: Scene,
) -> None:
    for size in (10, 9):
        await scene.send(b"x" * size)
    seen = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal seen
        for _ in range(100):
            seen += 1
            yield b"x"

    with pytest.raises(NotPermitted) as refusal:
        async with scene.intake.receiving(CONTEXT) as incoming:
            await incoming.write(pieces())
    last = await scene.send(b"x" * 6)

    assert (refusal.value.code, seen, last.bytes) == ("storage_limit_exceeded", 7, 6)


async def test_a_file_that_is_too_large_by_itself_is_said_to_be(scene: Scene) -> None:
    await scene.send(b"x" * 10)
    with pytest.raises(TooLarge):
        await scene.send(b"x" * 11)


async def test_others_files_and_expired_ones_take_no_room(scene: Scene) -> None:
    scene.limit(max_files=1)
    bob, namesake = replace(ANN, id="bob"), replace(ANN, tenant="globex")
    await scene.send(b"x", who=replace(CONTEXT, principal=bob))
    await scene.send(b"x", who=replace(CONTEXT, principal=namesake))
    await scene.send(b"x", expires_in_s=3_600)
    with pytest.raises(NotPermitted):
        await scene.send(b"x")
    scene.now += 3_600

    assert (await scene.send(b"x")).bytes == 1


@pytest.mark.parametrize(("limit", "most", "size"), [("max_files", 2, 1), ("max_total_bytes", 20, 10)])
async def test_uploads_at_the_same_time_are_never_too_much_together(
    scene: Scene, limit: str, most: int, size: int
) -> None:
    scene.limit(max_files=100, max_total_bytes=1_000)
    scene.limit(**{limit: most})
    begun = asyncio.Barrier(6)

    async def together() -> AsyncIterator[bytes]:
        await begun.wait()
        yield b"x" * size

    async def send() -> bool:
        try:
            async with scene.intake.receiving(CONTEXT) as incoming:
                written = await incoming.write(together())
                await incoming.keep(filename="a.txt", size=written, purpose="user_data", expires_in_s=None)
        except NotPermitted:
            if limit == "max_files":
                await begun.abort()
            return False
        except asyncio.BrokenBarrierError:
            return False
        return True

    async with asyncio.TaskGroup() as tasks:
        uploads = [tasks.create_task(send()) for _ in range(6)]
    usage = await scene.state.files.usage(ANN)

    assert (usage.files, usage.bytes) == (
        sum(upload.result() for upload in uploads),
        len(scene.stored) * size,
    )
    assert (usage.files if limit == "max_files" else usage.bytes) <= most


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        "10",
        {},
        {"max_bytes": 1, "max_files": 1},
        {"max_bytes": 1, "max_files": 1, "max_total_bytes": 1, "more": 1},
    ]
    + [{"max_bytes": odd, "max_files": 1, "max_total_bytes": 1} for odd in (None, -1, 1.5, "1", True)],
)
async def test_limits_that_are_not_said_are_no_permission(scene: Scene, said: Json) -> None:
    scene.policy.answers["regate/file/limits"] = said
    with pytest.raises(PolicyUnavailable):
        await scene.send(b"x")
    del scene.policy.answers["regate/file/limits"]
    with pytest.raises(PolicyUnavailable):
        await scene.send(b"x")

    assert (scene.stored, await scene.orphaned(at=NOW + 100 * DAY)) == ([], [])


async def test_the_limits_are_in_the_record_of_the_decision(scene: Scene) -> None:
    await scene.send(b"x")
    (decision,) = scene.audit.written[0]["decisions"]  # type: ignore[misc]

    assert decision["qualities"] == {"limits": {"max_bytes": 10, "max_files": 3, "max_total_bytes": 25}}  # type: ignore[index, call-overload]


# ---------------------------------------------------------------- failures


async def test_a_decision_that_cannot_be_recorded_keeps_no_file(scene: Scene) -> None:
    scene.audit.failing = AuditUnavailable("full")
    with pytest.raises(AuditUnavailable):
        await scene.send(b"x")

    assert (scene.stored, await scene.orphaned(at=NOW + 100 * DAY)) == ([], [])


async def test_an_upload_whose_process_dies_is_orphaned_a_day_later(scene: Scene) -> None:
    reached = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x"
        reached.set()
        await asyncio.Event().wait()

    async def die() -> None:
        async with scene.intake.receiving(CONTEXT) as incoming:
            await incoming.write(endless())

    scene.blobs.stuck = True  # nothing that a dying process would do is done
    async with asyncio.TaskGroup() as tasks:
        upload = tasks.create_task(die())
        await reached.wait()
        upload.cancel()

    assert (await scene.orphaned(at=NOW + DAY - 1), len(await scene.orphaned(at=NOW + DAY))) == ([], 1)


async def test_a_file_that_was_stored_though_its_request_was_cancelled_is_removed_whole(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scene.state.files.add

    async def stored_then_cancelled(row: FileRow) -> None:
        await whole(row)
        raise asyncio.CancelledError

    monkeypatch.setattr(scene.state.files, "add", stored_then_cancelled)
    with pytest.raises(asyncio.CancelledError):
        await scene.send(b"x")

    files = await scene.state.files.expired(after=None, limit=10)
    assert (scene.stored, files, await scene.orphaned(at=NOW + 100 * DAY)) == ([], [], [])


async def test_bytes_whose_row_cannot_be_removed_stay_with_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(*_: object) -> None:
        raise StateUnavailable("gone")

    whole = scene.state.files.add

    async def stored_then_gone(row: FileRow) -> None:
        await whole(row)
        monkeypatch.setattr(scene.state.files, "delete", failing)
        raise StateUnavailable("gone")

    monkeypatch.setattr(scene.state.files, "add", stored_then_gone)
    with pytest.raises(StateUnavailable):
        await scene.send(b"x")
    (file,) = scene.stored

    assert await scene.state.files.get(ANN, FileId(file)) is not None


async def test_a_deleted_file_is_gone_with_its_bytes(scene: Scene) -> None:
    row = await scene.send(b"x")

    assert (await scene.intake.remove(ANN, row.id), await scene.intake.remove(ANN, row.id)) == ([], None)
    assert (scene.stored, await scene.orphaned(at=NOW)) == ([], [])


async def test_a_file_is_deleted_also_when_its_storage_does_not_answer_and_its_bytes_are_swept_later(
    scene: Scene,
) -> None:
    row = await scene.send(b"x")
    scene.blobs.stuck = True

    assert await scene.intake.remove(ANN, row.id) == []
    assert (await scene.state.files.get(ANN, row.id), await scene.orphaned(at=NOW)) == (None, [row.id])
