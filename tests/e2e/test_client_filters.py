"""Clients' filters and attributes over the API: any text as a key, orderings of numbers alone, and
limits that are said before they cost.
"""

from __future__ import annotations

from typing import Any, Final

from tests.e2e.conftest import World, text, tool_call
from tests.e2e.test_retrieval import ingest

KEYS: Final = ("author name", "日本", "e\u0301", 'o\'neil "x" \\', "\u2028", "$or")
VALUES: Final[tuple[Any, ...]] = (1, 10, "10", True, "2024-05-01")


def many(lists: int) -> dict[str, Any]:
    """A filter of lists with a hundred values each."""
    listed = [
        {"type": "in", "key": f"k{number}", "value": [f"v{index}" for index in range(100)]}
        for number in range(lists)
    ]
    return {"type": "or", "filters": listed}


async def test_any_text_is_a_key_and_orderings_find_numbers_alone(world: World) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="acme")).id
    files = {}
    for number, value in enumerate(VALUES):
        own = {key: f"{key}{number}" for key in KEYS}
        files[await ingest(alice, store, f"{number}.md", f"Annual leave {number}.", {"n": value, **own})] = (
            value
        )
    shown = {
        file: (await alice.vector_stores.files.retrieve(vector_store_id=store, file_id=file)).attributes
        for file in files
    }

    async def found(kind: str, key: str, value: Any) -> list[Any]:
        page = await alice.vector_stores.search(
            vector_store_id=store, query="leave", filters={"type": kind, "key": key, "value": value}
        )  # type: ignore[arg-type]
        return sorted((files[hit.file_id] for hit in page.data), key=repr)

    assert [set(attributes or {}) for attributes in shown.values()] == [{"n", *KEYS}] * len(VALUES)
    assert [await found("eq", key, f"{key}2") for key in KEYS] == [["10"]] * len(KEYS)
    assert (await found("gt", "n", 2), await found("lte", "n", 1), await found("gte", "n", 1)) == (
        [10],
        [1],
        [1, 10],
    )


async def test_filter_over_the_limits_is_refused_by_its_place_before_anything_is_searched(
    world: World,
) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="acme")).id
    await ingest(alice, store, "leave.md", "Annual leave is 28 days.")
    world.upstream.turns = [tool_call("file_search", {"query": "leave"}), text("28 days.")]
    async with world.http() as http:
        taken = await http.post(
            f"/vector_stores/{store}/search", json={"query": "leave", "filters": many(10)}
        )
        refused = await http.post(
            f"/vector_stores/{store}/search", json={"query": "leave", "filters": many(101)}
        )
        asked = {
            "model": "small",
            "input": "Leave?",
            "tools": [{"type": "file_search", "vector_store_ids": [store]}],
        }
        in_tool = await http.post(
            "/responses", json={**asked, "tools": [{**asked["tools"][0], "filters": many(101)}]}
        )  # type: ignore[index]
        kept = await http.post(
            "/responses", json={**asked, "tools": [{**asked["tools"][0], "filters": many(10)}]}
        )  # type: ignore[index]

    assert (taken.status_code, kept.status_code, kept.json()["output"][0]["status"]) == (
        200,
        200,
        "completed",
    )
    assert [(one.status_code, one.json()["error"]["param"]) for one in (refused, in_tool)] == [
        (400, "filters"),
        (400, "tools[0].filters"),
    ]


async def test_key_that_looks_like_a_policy_field_is_refused_however_it_is_spelt(world: World) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="acme")).id
    file = (await alice.files.create(file=("a.md", b"Leave."), purpose="assistants")).id
    async with world.http() as http:
        answers = [
            await http.post(
                f"/vector_stores/{store}/files", json={"file_id": file, "attributes": {key: "globex"}}
            )
            for key in ("tenant", " Tenant ", "\uff54enant", "_gw", " regate.teams")
        ]

    assert {answer.status_code for answer in answers} == {400}
