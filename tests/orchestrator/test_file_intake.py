"""How files come and go: real state and storage, a policy that the test says, and failures in the middle of everything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.orchestrator.scripted import ANN, CONTEXT, NOW, Policy, Records

from regate_adapters.files.disk import DiskBlobStore
from regate_adapters.state.store import SqlStateStore
from regate_orchestrator.enforcer import Enforcer
from regate_orchestrator.errors import AuditUnavailable, NotPermitted, StateUnavailable, TooLarge
from regate_orchestrator.file_intake import FileIntake
from regate_orchestrator.rows import FileRow
from regate_orchestrator.schema import FieldSpec, RowSchema
from regate_orchestrator.values import FileId

STAMP = {"tenant": "acme", "owner": "ann"}
FIELDS = {name: FieldSpec(name, "string", required=True) for name in ("id", "filename", "purpose", "tenant", "owner")}
DAY = 86_400


class Disk(DiskBlobStore):
    """A directory that can be told not to let go of anything."""

    stuck = False

    async def delete(self, file: FileId) -> None:
        if self.stuck:
            raise StateUnavailable("the disk")
        await super().delete(file)


class Scene:
    """An intake whose policy allows all."""

    def __init__(self, root: Path, state: SqlStateStore) -> None:
        self.state = state
        self.root = root / "files"
        self.blobs = Disk(self.root)
        self.audit = Records()
        self.policy = Policy(answers={"regate/file/allow": True, "regate/file/stamp": STAMP})
        enforcer = Enforcer(self.policy, self.audit, {"file": RowSchema("file", FIELDS)}, lambda: self.now)
        self.now: float = NOW
        self.intake = FileIntake(enforcer=enforcer, state=state, blobs=self.blobs, most_bytes=10, clock=lambda: self.now)

    async def send(self, *parts: bytes, expires_in_s: int | None = None) -> FileRow:
        async def pieces() -> AsyncIterator[bytes]:
            for part in parts:
                yield part

        async with self.intake.receiving(CONTEXT) as incoming:
            size = await incoming.write(pieces())
            return await incoming.keep(filename="a.txt", size=size, purpose="user_data", expires_in_s=expires_in_s)

    async def loose(self, *, at: float) -> list[FileId]:
        """The bytes that would be swept at that time."""
        self.now, before = at, self.now
        try:
            return await self.state.due_blobs(after=None, limit=10)
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


async def test_a_file_is_kept_with_its_stamp_and_nothing_of_it_is_loose(scene: Scene) -> None:
    row = await scene.send(b"12345", b"67890", expires_in_s=3_600)

    assert row == FileRow(row.id, "a.txt", 10, "user_data", NOW, STAMP, NOW + 3_600)
    assert (await scene.state.file(ANN, row.id), scene.stored) == (row, [row.id])
    assert await scene.loose(at=NOW + 100 * DAY) == []


async def test_the_policy_is_asked_about_the_file_and_says_what_it_is_stamped_with(scene: Scene) -> None:
    row = await scene.send(b"x")

    rule, document = scene.policy.asked[-1]
    asked = {key: document[key] for key in ("action", "id", "filename", "purpose", "requested")}
    assert (rule, asked) == (
        "regate/file/stamp",
        {"action": "file.create", "id": row.id, "filename": "a.txt", "purpose": "user_data", "requested": {}},
    )


async def test_a_file_that_the_policy_denies_leaves_nothing(scene: Scene) -> None:
    scene.policy.answers = {"regate/file/deny_reasons": ["not_today"]}
    with pytest.raises(NotPermitted, match="not_today"):
        await scene.send(b"x")

    assert (scene.stored, await scene.loose(at=NOW + 100 * DAY)) == ([], [])


async def test_a_file_past_the_limit_leaves_nothing(scene: Scene) -> None:
    with pytest.raises(TooLarge):
        await scene.send(b"12345678901")

    assert (scene.stored, await scene.loose(at=NOW + 100 * DAY)) == ([], [])


async def test_a_decision_that_cannot_be_recorded_keeps_no_file(scene: Scene) -> None:
    scene.audit.failing = AuditUnavailable("full")
    with pytest.raises(AuditUnavailable):
        await scene.send(b"x")

    assert (scene.stored, await scene.loose(at=NOW + 100 * DAY)) == ([], [])


async def test_an_upload_whose_process_dies_is_loose_a_day_later(scene: Scene) -> None:
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

    assert (await scene.loose(at=NOW + DAY - 1), len(await scene.loose(at=NOW + DAY))) == ([], 1)


async def test_a_file_that_was_stored_though_its_request_was_cancelled_is_removed_whole(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scene.state.add_file

    async def stored_then_cancelled(row: FileRow) -> None:
        await whole(row)
        raise asyncio.CancelledError

    monkeypatch.setattr(scene.state, "add_file", stored_then_cancelled)
    with pytest.raises(asyncio.CancelledError):
        await scene.send(b"x")

    files = await scene.state.expired_files(after=None, limit=10)
    assert (scene.stored, files, await scene.loose(at=NOW + 100 * DAY)) == ([], [], [])


async def test_bytes_whose_row_cannot_be_removed_stay_with_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(*_: object) -> None:
        raise StateUnavailable("gone")

    whole = scene.state.add_file

    async def stored_then_gone(row: FileRow) -> None:
        await whole(row)
        monkeypatch.setattr(scene.state, "delete_file", failing)
        raise StateUnavailable("gone")

    monkeypatch.setattr(scene.state, "add_file", stored_then_gone)
    with pytest.raises(StateUnavailable):
        await scene.send(b"x")
    (file,) = scene.stored

    assert await scene.state.file(ANN, FileId(file)) is not None


async def test_a_deleted_file_is_gone_with_its_bytes(scene: Scene) -> None:
    row = await scene.send(b"x")

    assert (await scene.intake.remove(ANN, row.id), await scene.intake.remove(ANN, row.id)) == ([], None)
    assert (scene.stored, await scene.loose(at=NOW)) == ([], [])


async def test_a_file_is_deleted_also_when_its_storage_does_not_answer_and_its_bytes_are_swept_later(scene: Scene) -> None:
    row = await scene.send(b"x")
    scene.blobs.stuck = True

    assert await scene.intake.remove(ANN, row.id) == []
    assert (await scene.state.file(ANN, row.id), await scene.loose(at=NOW)) == (None, [row.id])
