"""Searching while files come and go and are stamped anew, on real Chroma and real pgvector: no search fails,
lies or finds what was deleted.

What a search may find is decided by when it was sent: a file that was taken out before must not be found, and
one that was there all along, whatever was changed about it, must be found exactly once.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from tests.e2e.conftest import World

ROUNDS = 6
LASTING = 3


class Scene:
    """A store, and what is true of its files at the moment."""

    def __init__(self, http: httpx.AsyncClient, store: str) -> None:
        self.http, self.store = http, store
        self.lasting: list[str] = []
        self.gone: set[str] = set()
        """Files whose removal was acknowledged, and that are not attached again."""
        self.problems: list[str] = []
        self.searches = 0

    async def post(self, path: str, **kwargs: Any) -> dict[str, Any]:
        answer = await self.http.post(path, **kwargs)
        assert answer.status_code == 200, f"{path}: {answer.text}"
        return dict(answer.json())

    async def upload(self, text: str) -> str:
        return str(
            (
                await self.post(
                    "/files", files={"file": ("a.md", text.encode())}, data={"purpose": "assistants"}
                )
            )["id"]
        )

    async def attach(self, file: str) -> None:
        await self.post(f"/vector_stores/{self.store}/files", json={"file_id": file})
        async with asyncio.timeout(60):
            while True:
                status = (await self.http.get(f"/vector_stores/{self.store}/files/{file}")).json()["status"]
                if status != "in_progress":
                    break
                await asyncio.sleep(0.01)  # the API is polled, as clients do
        assert status == "completed", file

    async def search(self) -> None:
        """Search once, and note what is wrong with the answer."""
        gone_before = set(self.gone)
        answer = await self.http.post(
            f"/vector_stores/{self.store}/search", json={"query": "annual leave", "max_num_results": 50}
        )
        self.searches += 1
        if answer.status_code != 200:
            self.problems.append(f"{answer.status_code} {answer.text}")
            return
        found = [hit["file_id"] for hit in answer.json()["data"]]
        self.problems += [f"{file} was gone and is found" for file in gone_before.intersection(found)]
        self.problems += [
            f"{file} is found {found.count(file)} times" for file in self.lasting if found.count(file) != 1
        ]
        self.problems += [f"{file} is found more than once" for file in set(found) if found.count(file) > 1]


async def test_searches_never_fail_nor_lie_while_files_come_and_go_and_are_stamped_anew(world: World) -> None:
    async with world.http("alice", "acme", teams=["hr"]) as http:
        store = (await http.post("/vector_stores", json={"name": "s"})).json()["id"]
        scene = Scene(http, store)
        for number in range(LASTING):
            file = await scene.upload(f"Annual leave, lasting part {number}.")
            await scene.attach(file)
            scene.lasting.append(file)
        changes = [_coming_and_going(scene, 0), _coming_and_going(scene, 1), _deleting(scene)]
        changes += [_stamping(scene, file) for file in scene.lasting]
        async with asyncio.TaskGroup() as group:
            changing = [group.create_task(change) for change in changes]
            for _ in range(4):
                group.create_task(_searching(scene, changing))
        await scene.search()

    assert scene.problems == []
    assert scene.searches > 20


async def _searching(scene: Scene, changing: list[asyncio.Task[None]]) -> None:
    while not all(work.done() for work in changing):
        await scene.search()


async def _coming_and_going(scene: Scene, number: int) -> None:
    """Attach the same file and take it out, again and again."""
    file = await scene.upload(f"Annual leave, coming and going {number}.")
    for _ in range(ROUNDS):
        scene.gone.discard(file)
        await scene.attach(file)
        answer = await scene.http.delete(f"/vector_stores/{scene.store}/files/{file}")
        assert answer.status_code == 200, answer.text
        scene.gone.add(file)
        await scene.search()


async def _deleting(scene: Scene) -> None:
    """Upload and attach files and delete them, some of them while they are being read."""
    for number in range(ROUNDS):
        file = await scene.upload(f"Annual leave, soon deleted {number}.")
        if number % 2:
            await scene.attach(file)
        else:
            await scene.post(f"/vector_stores/{scene.store}/files", json={"file_id": file})
        answer = await scene.http.delete(f"/files/{file}")
        assert answer.status_code == 200, answer.text
        scene.gone.add(file)
        await scene.search()


async def _stamping(scene: Scene, file: str) -> None:
    """Give a file other attributes and another visibility, again and again: its owner finds it under
    each of them.
    """
    for number in range(ROUNDS):
        sent = {"regate.visibility": ("private", "tenant", "attributes")[number % 3], "number": number}
        await scene.post(f"/vector_stores/{scene.store}/files/{file}", json={"attributes": sent})


async def test_a_store_that_is_deleted_while_it_is_searched_is_found_empty_or_absent_and_nothing_fails(
    world: World,
) -> None:
    async with world.http("alice", "acme") as http:
        for _ in range(3):
            store = (await http.post("/vector_stores", json={"name": "s"})).json()["id"]
            scene = Scene(http, store)
            await scene.attach(await scene.upload("Annual leave."))
            body = {"query": "annual leave"}
            async with asyncio.TaskGroup() as group:
                searches = [
                    group.create_task(http.post(f"/vector_stores/{store}/search", json=body))
                    for _ in range(12)
                ]
                deleted = await http.delete(f"/vector_stores/{store}")
                late = await http.post(f"/vector_stores/{store}/search", json=body)

            assert (deleted.status_code, late.status_code) == (200, 404)
            assert {search.result().status_code for search in searches} <= {200, 404}


async def test_nobody_finds_a_file_after_it_was_made_private_however_fast_they_ask(world: World) -> None:
    async with (
        world.http("alice", "acme", teams=["hr"]) as alice,
        world.http("bob", "acme", teams=["rnd"]) as bob,
    ):
        made = await alice.post(
            "/vector_stores", json={"name": "s", "metadata": {"regate.visibility": "tenant"}}
        )
        scene = Scene(alice, made.json()["id"])
        file = await scene.upload("Annual leave.")
        await scene.attach(file)
        path = f"/vector_stores/{scene.store}"
        seen: list[tuple[bool, int]] = []
        for _ in range(ROUNDS):
            for visibility in ("tenant", "private"):
                await scene.post(
                    f"{path}/files/{file}", json={"attributes": {"regate.visibility": visibility}}
                )
                answers = await asyncio.gather(
                    *(bob.post(f"{path}/search", json={"query": "leave"}) for _ in range(3))
                )
                seen += [(visibility == "tenant", len(answer.json()["data"])) for answer in answers]

    assert set(seen) == {(True, 1), (False, 0)}
