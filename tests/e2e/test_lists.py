"""Every list over sockets: what a filter lets through is decided again before anybody sees it, and before it
may be a cursor.

The gateway's own policy engine is wrapped in one that loses every filter, as a policy might whose filter is
wider than its rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from tests.adapters.state.test_shown_lists import Widened
from tests.e2e.conftest import World

TEMPLATE = {"instructions": "Be brief."}
PRIVATE, TENANT = {"regate.visibility": "private"}, {"regate.visibility": "tenant"}


@dataclass
class Lists:
    """The lists of which alice may see one object each, and one is bob's alone. `shown` and `hidden`
    are the ids of these by list.
    """

    world: World
    shown: dict[str, str]
    hidden: dict[str, str]


async def post(http: httpx.AsyncClient, path: str, **more: Any) -> dict[str, Any]:
    answer = await http.post(path, **more)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def uploaded(http: httpx.AsyncClient) -> str:
    made = await post(http, "/files", files={"file": ("a.md", b"blue-heron")}, data={"purpose": "assistants"})
    return str(made["id"])


async def own(http: httpx.AsyncClient) -> dict[str, str]:
    """Make one of each that belongs to a person, and return the ids by list."""
    return {
        "/vector_stores": (await post(http, "/vector_stores", json={"metadata": PRIVATE}))["id"],
        "/files": await uploaded(http),
        "/prompts": (
            await post(http, "/prompts", json={"name": "Greeting", "template": TEMPLATE, "metadata": PRIVATE})
        )["id"],
        "/responses": (await post(http, "/responses", json={"model": "small", "input": "Hello."}))["id"],
    }


@pytest.fixture
async def lists(world: World) -> Lists:
    async with world.http("bob", "acme") as bob, world.http("alice", "acme") as alice:
        hidden, shown = await own(bob), await own(alice)
        store = (await post(bob, "/vector_stores", json={"metadata": TENANT}))["id"]
        files = [
            {"file_id": await uploaded(bob), "attributes": attributes} for attributes in (PRIVATE, TENANT)
        ]
        batch = await post(bob, f"/vector_stores/{store}/file_batches", json={"files": files})
    for path in (f"/vector_stores/{store}/files", f"/vector_stores/{store}/file_batches/{batch['id']}/files"):
        hidden[path], shown[path] = files[0]["file_id"], files[1]["file_id"]
    services: Any = world.gateway.services
    services.enforcer._engine = Widened(services.enforcer._engine)
    return Lists(world, shown, hidden)


async def test_no_list_shows_what_the_rule_denies_whatever_the_filter_lets_through(lists: Lists) -> None:
    async with lists.world.http("alice", "acme") as alice, lists.world.http("bob", "acme") as bob:
        seen = {path: {one["id"] for one in (await alice.get(path)).json()["data"]} for path in lists.shown}
        bobs = {path: [one["id"] for one in (await bob.get(path)).json()["data"]] for path in lists.shown}
    expected = {path: {name} for path, name in lists.shown.items()}
    store = next(
        path.split("/")[2] for path in seen if path.endswith("/files") and path.startswith("/vector_stores/")
    )

    assert seen == expected | {
        "/vector_stores": {store, lists.shown["/vector_stores"]}
    }  # that one is the tenant's
    assert all(lists.hidden[path] in names for path, names in bobs.items())


async def test_page_is_full_and_goes_on_where_there_is_more_to_see(lists: Lists) -> None:
    async with lists.world.http("bob", "acme") as bob, lists.world.http("alice", "acme") as alice:
        for _ in range(5):
            await post(bob, "/prompts", json={"name": "Greeting", "template": TEMPLATE, "metadata": PRIVATE})
        second = await post(
            alice, "/prompts", json={"name": "Greeting", "template": TEMPLATE, "metadata": PRIVATE}
        )
        page = (await alice.get("/prompts", params={"limit": 1})).json()
        rest = (await alice.get("/prompts", params={"limit": 1, "after": page["last_id"]})).json()

    assert {page["first_id"], rest["first_id"]} == {second["id"], lists.shown["/prompts"]}
    assert [(len(one["data"]), one["has_more"]) for one in (page, rest)] == [(1, True), (1, False)]


async def test_what_is_not_shown_is_a_cursor_as_little_as_what_is_not_there(lists: Lists) -> None:
    async with lists.world.http("alice", "acme") as alice:
        for path, hidden in lists.hidden.items():
            answers = [
                await alice.get(path, params={side: name})
                for side in ("after", "before")
                for name in (hidden, hidden[:-1] + "x")
            ]

            assert [answer.status_code for answer in answers] == [400] * 4
            assert [answers[0].json(), answers[2].json()] == [answers[1].json(), answers[3].json()]


async def test_each_list_leaves_one_record_of_its_filter_and_its_rows_and_the_alarm_is_raised(
    lists: Lists,
) -> None:
    async with lists.world.http("alice", "acme") as alice:
        for path in lists.shown:
            await alice.get(path)
        metrics = (await alice.get(f"{lists.world.url}/metrics")).text
    records = [
        record for record in lists.world.audit(kind="decisions", subject="alice") if "compiled" in record
    ]
    denied = lists.world.audit(kind="denied", subject="alice")

    assert [record["phase"] for record in records] == [
        "store.list",
        "file.list",
        "prompt.list",
        "response.list",
        "chunk.read",
        "chunk.read",
    ]
    assert all(record["batch"] for record in records)
    assert [record["alert"] for record in denied] == [True] * 6
    assert [
        lists.hidden[path] in record["rows"] for path, record in zip(lists.hidden, denied, strict=True)
    ] == [True] * 6
    assert f"regate_pushdown_mismatch_total {float(sum(len(record['rows']) for record in denied))}" in metrics


async def test_list_with_a_right_filter_raises_none(world: World) -> None:
    async with world.http("bob", "acme") as bob, world.http("alice", "acme") as alice:
        await own(bob)
        shown = await own(alice)
        seen = {path: [one["id"] for one in (await alice.get(path)).json()["data"]] for path in shown}
        metrics = (await alice.get(f"{world.url}/metrics")).text

    assert (seen, world.audit(kind="denied")) == ({path: [name] for path, name in shown.items()}, [])
    assert "regate_pushdown_mismatch_total 0.0" in metrics
