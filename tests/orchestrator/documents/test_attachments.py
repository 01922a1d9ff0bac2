"""What lets files into a store, and changes those in it: nothing is half done, and at every moment a
file is found under exactly one stamp.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.orchestrator.documents.ingest_world import FILE, SCHEMA, VS, Clock, World, stamp_of, working
from tests.orchestrator.scripted import ANN, CONTEXT, Compass, Policy, Records

from regate_adapters.state.documents.attachments import AttachmentState
from regate_adapters.state.store import SqlStateStore
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.documents.attachments import Attachments, Wanted
from regate_orchestrator.documents.attributes import split_attributes
from regate_orchestrator.documents.embedding import EmbeddingModels
from regate_orchestrator.errors import (
    InvalidRequest,
    NotFound,
    NotPermitted,
    PolicyUnavailable,
    StateUnavailable,
)
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.filters.schema import FieldSpec, RowSchema
from regate_orchestrator.ports import Answer, Query
from regate_orchestrator.rows import Attachment, FileRow, Totals
from regate_orchestrator.values import FileId, Json, JsonObject

FILES = RowSchema(
    "file",
    {name: FieldSpec(name, "string", required=True) for name in ("id", "tenant", "owner", "visibility")},
)
VIEW: JsonObject = {"id": VS, "tenant": "acme"}


class Ingesting(Policy):
    """A policy that stamps `visibility` as requested. It neither lets in nor lets be read what a
    test says.
    """

    denied: frozenset[str] = frozenset()
    unreadable: frozenset[str] = frozenset()
    owner: str = "ann"

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        documents: Any = document.get("documents", ())
        own = {place: one for place, one in enumerate(documents) if one["file"].get("tenant") == "acme"}
        self.answers["regate/lib/batch/ingested"] = {
            "readable": [place for place, one in own.items() if one["file"]["id"] not in self.unreadable],
            "stamps": {
                str(place): self._stamp(one)
                for place, one in own.items()
                if one["file"]["id"] not in self.denied
            },
        }
        self.answers["regate/lib/batch/document_reasons"] = {"0": ["not_today"]}
        self.answers["regate/ingest/stamp"] = self._stamp(document.get("document", {"requested": {}}))
        return await super().ask(rule, document)

    def _stamp(self, document: Any) -> Json:
        return stamp_of(ANN, owner=self.owner, visibility=document["requested"].get("visibility", "tenant"))


class Scene(World):
    """A world with the service under test, and what it finds."""

    def __init__(self, state: SqlStateStore, clock: Clock) -> None:
        super().__init__(state, clock)
        self.policy, self.audit = Ingesting({"regate/ingest/allow": True}), Records()
        self.woken = 0
        self.attachments = self.over(state)

    def over(self, state: SqlStateStore, *, policy: Policy | None = None) -> Attachments:
        return Attachments(
            enforcer=Enforcer(policy or self.policy, self.audit, {"chunk": SCHEMA}, self.clock),
            state=state,
            vectors=self.engine,
            models=EmbeddingModels(Compass()),
            file_schema=FILES,
            wake=self.wake,
            clock=self.clock,
        )

    def wake(self) -> None:
        self.woken += 1

    async def file(self, name: str, **stamp: Any) -> None:
        await self.state.files.add(
            FileRow(FileId(name), f"{name}.txt", 1, "assistants", 1_000, stamp_of(ANN, **stamp))
        )

    async def decide(self, *names: str) -> list[Attachment]:
        store = await self.state.vector_stores.get(ANN, VS)
        assert store is not None
        return await self.attachments.decide(CONTEXT, store, VIEW, [wanted(name) for name in names])

    async def completed(self, *names: str) -> Attachment:
        """Attach the files and make their chunks; return the first."""
        for name in names:
            await self.file(name)
        await self.attachments.put(CONTEXT, await self.decide(*names))
        async with working(self.ingestion()):
            for name in names:
                await self.until("completed", name)
        row = await self.state.attachments.get(ANN, VS, FileId(names[0]))
        assert row is not None
        return row

    async def amend(
        self, present: Attachment, *, attachments: Attachments | None = None, **attributes: str
    ) -> Attachment:
        sent = {key.replace("__", "."): value for key, value in attributes.items()}
        split = split_attributes(sent, param="attributes")
        return await (attachments or self.attachments).amend(
            CONTEXT, VIEW, present, sent=sent, attributes=split
        )

    async def found(self) -> dict[int, list[tuple[Any, Mapping[str, Any]]]]:
        """What can be found of the file now: for each chunk's index, under which visibility and with
        which attributes.
        """
        at_first = self.engine.before
        self.engine.before = None
        found = await self.engine.search(VS, Query((1.0, 0.0), limit=100), plan=Everything())
        self.engine.before = at_first
        live = (await self.state.attachments.live(ANN, [(VS, FILE)])).get((VS, FILE))
        shown: dict[int, list[tuple[Any, Mapping[str, Any]]]] = {}
        for one in found.candidates:
            if (
                live is not None
                and one.id.startswith(live.generation + "/")
                and dict(one.stamp) == dict(live.stamp)
            ):
                shown.setdefault(one.index, []).append((one.stamp["visibility"], dict(one.attributes)))
        return shown


def wanted(name: str) -> Wanted:
    return Wanted(FileId(name), {}, split_attributes({}, param="attributes"), None, "file_id")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    clock = Clock()
    async with SqlStateStore.open(f"sqlite:///{tmp_path / 'state.db'}", clock=clock) as state:
        made = Scene(state, clock)
        await made.make()
        yield made


# ---------------------------------------------------------------- attaching


async def test_what_is_decided_is_stored_only_when_it_is_put(scene: Scene) -> None:
    await scene.file("file-1")
    rows = await scene.decide("file-1")
    before = (await scene.state.attachments.totals(ANN, [VS]))[VS]
    await scene.attachments.put(CONTEXT, rows)

    assert (before, (await scene.state.attachments.totals(ANN, [VS]))[VS]) == (
        Totals(),
        Totals(in_progress=1),
    )
    assert scene.woken == 1


async def test_absent_and_unreadable_files_are_the_same_and_nothing_is_stored(scene: Scene) -> None:
    for name in ("file-1", "file-2"):
        await scene.file(name)
    scene.policy.unreadable = frozenset({"file-2"})
    said = []
    for name in ("file-2", "file-9"):
        with pytest.raises(NotFound) as refused:
            await scene.decide("file-1", name)
        said.append((refused.value.message.replace(name, "<file>"), refused.value.param, refused.value.code))

    assert said[0] == said[1]
    assert (await scene.state.attachments.totals(ANN, [VS]))[VS] == Totals()


async def test_a_refused_file_is_refused_with_the_reasons_and_takes_the_others_with_it(scene: Scene) -> None:
    for name in ("file-1", "file-2"):
        await scene.file(name)
    scene.policy.denied = frozenset({"file-2"})
    with pytest.raises(NotPermitted, match="file-2: not_today"):
        await scene.decide("file-1", "file-2")

    assert (await scene.state.attachments.totals(ANN, [VS]))[VS] == Totals()


async def test_a_file_in_progress_is_not_attached_again(scene: Scene) -> None:
    await scene.file("file-1")
    await scene.attachments.put(CONTEXT, await scene.decide("file-1"))
    with pytest.raises(InvalidRequest, match="being processed"):
        await scene.decide("file-1")


async def test_every_decision_on_many_files_is_recorded_as_a_single_one_would_be(scene: Scene) -> None:
    for name in ("file-1", "file-2"):
        await scene.file(name)
    scene.policy.denied = frozenset({"file-2"})
    with pytest.raises(NotPermitted):
        await scene.decide("file-1", "file-2")
    (record,) = [one for one in scene.audit.written if one["phase"] == "ingest.document"]
    decisions: Any = record["decisions"]
    told = [(one["action"], one["about"], one["allowed"]) for one in decisions]

    assert told == [
        ("file.read", "file-1", True),
        ("ingest.document", "file-1", True),
        ("file.read", "file-2", True),
        ("ingest.document", "file-2", False),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {"readable": [0]},
        {"readable": [1], "stamps": {}},
        {"readable": [True], "stamps": {}},
        {"readable": ["0"], "stamps": {}},
        {"readable": [0], "stamps": {"1": stamp_of(ANN)}},
        {"readable": [0], "stamps": {"0": "stamp"}},
        {"readable": [0], "stamps": {"0": {"tenant": "acme", "owner": "ann"}}},
        {"readable": [0], "stamps": {"0": stamp_of(ANN, tenant="globex")}},
    ],
)
async def test_an_answer_of_another_shape_lets_nothing_in(scene: Scene, answer: Json) -> None:
    await scene.file("file-1")

    scene.attachments = scene.over(scene.state, policy=Policy({"regate/lib/batch/ingested": answer}))
    with pytest.raises(PolicyUnavailable):
        await scene.decide("file-1")


# ---------------------------------------------------------------- amending


async def test_attributes_and_stamp_are_replaced_whole(scene: Scene) -> None:
    present = await scene.amend(await scene.completed("file-1"), colour="blue", regate__visibility="private")
    first = await scene.found()
    await scene.amend(present, size="big")

    assert first == {index: [("private", {"colour": "blue"})] for index in (0, 1)}
    assert await scene.found() == {index: [("tenant", {"size": "big"})] for index in (0, 1)}
    assert len(await scene.in_engine()) == 2


async def test_at_every_moment_the_file_is_found_under_one_stamp_and_whole(scene: Scene) -> None:
    present = await scene.completed("file-1")
    seen = []

    async def look(call: str) -> None:
        seen.append(await scene.found())

    scene.engine.before = look
    await scene.amend(present, regate__visibility="private")
    seen.append(await scene.found())

    old, new = ({index: [(visibility, {})] for index in (0, 1)} for visibility in ("tenant", "private"))
    assert seen == [
        old,
        old,
        new,
        new,
    ]  # before the copy is cleared, before it is written, before the old is removed, and after


class Crashing(AttachmentState):
    """Attachments that fail where the new stamp would come into force."""

    async def amend(self, row: Attachment, *, expected: Attachment) -> bool:
        raise StateUnavailable("crashed")


async def test_a_crash_before_the_change_is_in_force_leaves_the_old_stamp_and_the_copy_is_swept(
    scene: Scene,
) -> None:
    present = await scene.completed("file-1")
    failing = SqlStateStore(scene.state._database)
    failing.attachments = Crashing(scene.state._database)
    crashing = scene.over(failing)
    with pytest.raises(StateUnavailable):
        await scene.amend(present, attachments=crashing, regate__visibility="private")
    written, found = await scene.in_engine(), await scene.found()
    early = await scene.state.orphaned_chunks.take(limit=10)
    scene.clock.time += 601
    (chunks,) = await scene.state.orphaned_chunks.take(limit=10)

    assert found == {index: [("tenant", {})] for index in (0, 1)}
    assert (len(written), early, {chunks.generation, present.generation}) == (
        4,
        [],
        {name.rpartition("/")[0] for name in written},
    )


async def test_a_file_of_which_the_engine_has_lost_chunks_is_read_again_under_the_new_stamp(
    scene: Scene,
) -> None:
    present = await scene.completed("file-1")
    await scene.engine.remove(VS, FILE)
    amended = await scene.amend(present, regate__visibility="private")
    async with working(scene.ingestion()):
        await scene.until("completed")

    assert amended.status == "in_progress"
    assert await scene.found() == {index: [("private", {})] for index in (0, 1)}


async def test_a_file_that_was_stamped_anew_is_not_read_when_it_is_attached_again(scene: Scene) -> None:
    present = await scene.completed("file-1")
    await scene.amend(present, regate__visibility="private")
    await scene.attachments.put(CONTEXT, await scene.decide("file-1"))
    async with working(scene.ingestion()):
        await scene.until("completed")

    assert scene.reader.reading == ["file-1.txt"]
    assert await scene.found() == {index: [("tenant", {})] for index in (0, 1)}  # as it is decided now


async def test_what_is_being_read_is_read_again_under_the_new_stamp(scene: Scene) -> None:
    scene.reader.gate.clear()
    await scene.file("file-1")
    await scene.attachments.put(CONTEXT, await scene.decide("file-1"))
    async with working(scene.ingestion(), scene.ingestion()):
        await scene.reader.began.acquire()
        present = await scene.state.attachments.get(ANN, VS, FILE)
        assert present is not None
        await scene.amend(present, regate__visibility="private")
        scene.reader.gate.set()
        await scene.until("completed")

    assert await scene.found() == {index: [("private", {})] for index in (0, 1)}


async def test_changes_at_once_leave_one_of_them_and_nothing_else(scene: Scene) -> None:
    present = await scene.completed("file-1")
    outcomes = await asyncio.gather(
        *(scene.amend(present, size=str(number)) for number in range(4)), return_exceptions=True
    )
    (last,) = {
        tuple(found)
        for found in ([attributes["size"] for _, attributes in one] for one in (await scene.found()).values())
    }

    assert len(last) == 1
    assert {type(outcome) for outcome in outcomes} <= {Attachment, InvalidRequest}
    assert len(await scene.in_engine()) == 2


async def test_what_is_gone_meanwhile_is_not_brought_back(scene: Scene) -> None:
    present = await scene.completed("file-1")

    async def detach(call: str) -> None:
        scene.engine.before = None
        await scene.state.attachments.delete(ANN, VS, FILE)

    scene.engine.before = detach
    with pytest.raises(NotFound):
        await scene.amend(present, size="big")

    assert (await scene.found(), await scene.status()) == ({}, "gone")


async def test_the_owner_never_changes_whatever_the_policy_says(scene: Scene) -> None:
    present = await scene.completed("file-1")
    scene.policy.owner = "bob"
    with pytest.raises(PolicyUnavailable):
        await scene.amend(present, size="big")

    assert await scene.found() == {index: [("tenant", {})] for index in (0, 1)}


async def test_a_refused_change_changes_nothing(scene: Scene) -> None:
    present = await scene.completed("file-1")
    scene.policy.answers["regate/ingest/allow"] = False
    with pytest.raises(NotPermitted):
        await scene.amend(present, size="big")

    assert await scene.state.attachments.get(ANN, VS, FILE) == present


async def test_the_policy_is_told_the_present_stamp(scene: Scene) -> None:
    present = await scene.completed("file-1")
    await scene.amend(present, size="big")
    asked = [document for rule, document in scene.policy.asked if rule == "regate/ingest/allow"]

    assert [document["attachment"] for document in asked] == [present.stamp]
