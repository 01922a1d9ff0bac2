from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from regate_adapters.backend.upstreams import Upstreams
from regate_orchestrator.errors import UpstreamError
from regate_orchestrator.ports import Serving

if TYPE_CHECKING:
    from tests.adapters.backend.conftest import Exchange, ScriptedUpstream


@pytest.fixture(autouse=True)
def _renews(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a list wait for what is renewed as long as it takes."""
    monkeypatch.setattr("regate_adapters.backend.catalogue._RENEWAL_SECONDS", 60)


class Hand:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def listing(*models: str) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [{"id": model, "object": "model", "created": 5, "owned_by": "them"} for model in models],
    }


@asynccontextmanager
async def asked(upstream: ScriptedUpstream, *configs: Any) -> AsyncIterator[tuple[Upstreams, Hand]]:
    clock = Hand()
    async with Upstreams(configs or [upstream.config()], clock=clock) as pool:
        yield pool, clock


async def upstream_of(pool: Upstreams, model: str) -> str | None:
    serving = await pool.serving(model)
    return None if serving is None else serving.upstream


async def test_models_are_discovered(upstream: ScriptedUpstream) -> None:
    upstream.script = lambda exchange: exchange.answer_json(listing("a", "b"))
    async with asked(upstream) as (pool, _):
        assert await pool.catalogue() == {"a": "scripted", "b": "scripted"}
        assert await pool.model_entries() == [
            {"id": "a", "object": "model", "created": 5, "owned_by": "them"},
            {"id": "b", "object": "model", "created": 5, "owned_by": "them"},
        ]
    sent = upstream.requests[0]
    assert (sent.method, sent.path, dict(sent.headers)["authorization"]) == (
        "GET",
        "/v1/models",
        "Bearer sk-upstream",
    )


async def test_configured_models_are_taken_as_they_are(upstream: ScriptedUpstream) -> None:
    async with asked(upstream, upstream.config(models=("a",))) as (pool, _):
        assert await upstream_of(pool, "a") == "scripted"
        assert await upstream_of(pool, "b") is None
        assert await pool.model_entries() == [
            {"id": "a", "object": "model", "created": 0, "owned_by": "scripted"}
        ]
    assert upstream.requests == []


async def test_first_configured_upstream_serves_a_model_that_two_have(upstream: ScriptedUpstream) -> None:
    configs = [upstream.config("first", models=("a",)), upstream.config("second", models=("a", "b"))]
    async with asked(upstream, *configs) as (pool, _):
        assert await pool.catalogue() == {"a": "first", "b": "second"}
        assert await upstream_of(pool, "a") == "first"


async def test_alias_is_served_and_its_own_name_goes_to_the_upstream(upstream: ScriptedUpstream) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer_json(listing("org/a-large-name", "b") if exchange.method == "GET" else {})

    upstream.script = script
    async with asked(upstream, upstream.config(aliases={"a": "org/a-large-name"})) as (pool, _):
        entries = await pool.model_entries()
        served = {model: await upstream_of(pool, model) for model in ("a", "b", "org/a-large-name")}
        for model in ("a", "b"):
            async with pool.open(
                "scripted", "/chat/completions", {"model": model, "n": 1}, accept_stream=False
            ):
                pass
    assert entries == [
        {"id": "a", "object": "model", "created": 5, "owned_by": "them"},
        {"id": "b", "object": "model", "created": 5, "owned_by": "them"},
    ]
    assert served == {
        "a": "scripted",
        "b": "scripted",
        "org/a-large-name": None,
    }  # else a rule on "a" would be passed by
    assert [json.loads(exchange.body) for exchange in upstream.requests if exchange.method == "POST"] == [
        {"model": "org/a-large-name", "n": 1},
        {"model": "b", "n": 1},
    ]


async def test_alias_needs_no_listing_and_leaves_a_written_name_alone(upstream: ScriptedUpstream) -> None:
    upstream.script = lambda exchange: exchange.answer(500, b"oops")
    discovered = upstream.config("discovered", aliases={"a": "own"})
    written = upstream.config("written", models=("x",), aliases={"b": "x"})
    async with asked(upstream, discovered, written) as (pool, _):
        assert [await upstream_of(pool, model) for model in ("a", "x", "b")] == [
            "discovered",
            "written",
            "written",
        ]


async def test_upstream_by_policy_serves_nobody_else(upstream: ScriptedUpstream) -> None:
    configs = [
        upstream.config("open", models=("a",)),
        upstream.config("kept", models=("a", "own"), by_policy=True),
    ]
    async with asked(upstream, *configs) as (pool, _):
        assert await pool.serving("a") == Serving("open")
        assert await pool.serving("own") is None
        assert await pool.catalogue() == {"a": "open"}
        assert [(entry["id"], upstreams) for entry, upstreams in await pool.reserved_entries()] == [
            ("own", frozenset({"kept"}))
        ]
        assert await pool.serving("a", by="kept") == Serving("kept")
        assert await pool.serving("own", by="kept") == Serving("kept")


async def test_named_upstream_must_be_there_and_serve_the_model(upstream: ScriptedUpstream) -> None:
    configs = [upstream.config("first", models=("a",)), upstream.config("second", models=("b",))]
    async with asked(upstream, *configs) as (pool, _):
        assert [await pool.serving("a", by=name) for name in ("second", "third", "")] == [None, None, None]


async def test_named_upstream_that_never_listed_is_not_guessed_at(upstream: ScriptedUpstream) -> None:
    upstream.script = lambda exchange: exchange.answer(500, b"oops")
    async with asked(upstream, upstream.config("written", models=("a",)), upstream.config("silent")) as (
        pool,
        _,
    ):
        with pytest.raises(UpstreamError):
            await pool.serving("a", by="silent")


async def test_alternates_are_those_that_stand_in_for_it_with_the_same_model(
    upstream: ScriptedUpstream,
) -> None:
    configs = [
        upstream.config("main", models=("a", "b")),
        upstream.config("spare", models=("a",), fallback_for=("main",)),
        upstream.config("other", models=("c",)),
        upstream.config("last", models=("a", "b"), fallback_for=("other", "main")),
    ]
    async with asked(upstream, *configs) as (pool, _):
        assert await pool.serving("a") == Serving("main", ("spare", "last"))
        assert await pool.serving("b") == Serving("main", ("last",))
        assert await pool.serving("a", by="main") == Serving("main")


async def test_listing_is_good_for_thirty_seconds(upstream: ScriptedUpstream) -> None:
    upstream.script = lambda exchange: exchange.answer_json(listing("a"))
    async with asked(upstream) as (pool, clock):
        await pool.catalogue()
        clock.now += 29
        await pool.catalogue()
        assert len(upstream.requests) == 1
        clock.now += 2
        upstream.script = lambda exchange: exchange.answer_json(listing("b"))
        assert await pool.catalogue() == {"b": "scripted"}


async def test_concurrent_callers_share_one_fetch(upstream: ScriptedUpstream) -> None:
    upstream.script = lambda exchange: exchange.answer_json(listing("a"))
    async with asked(upstream) as (pool, _):
        found = await asyncio.gather(
            *(upstream_of(pool, "a") for _ in range(20)), *(upstream_of(pool, "b") for _ in range(20))
        )
    assert (set(found[:20]), set(found[20:]), len(upstream.requests)) == ({"scripted"}, {None}, 1)


async def test_fetch_under_way_is_shared_however_long_it_takes(upstream: ScriptedUpstream) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def script(exchange: Exchange) -> None:
        begun.set()
        await go.wait()
        await exchange.answer_json(listing("a"))

    upstream.script = script
    async with asked(upstream) as (pool, clock), asyncio.TaskGroup() as group:
        first = group.create_task(upstream_of(pool, "a"))
        await begun.wait()
        clock.now += 60
        second = group.create_task(pool.catalogue())
        asyncio.get_running_loop().call_soon(go.set)
        await asyncio.wait([first, second])
    assert len(upstream.requests) == 1


async def test_caller_that_goes_away_does_not_end_the_fetch_of_the_others(upstream: ScriptedUpstream) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def script(exchange: Exchange) -> None:
        begun.set()
        await go.wait()
        await exchange.answer_json(listing("a"))

    upstream.script = script
    async with asked(upstream) as (pool, _), asyncio.TaskGroup() as group:
        first = group.create_task(upstream_of(pool, "a"))
        second = group.create_task(upstream_of(pool, "a"))
        await begun.wait()
        first.cancel()
        go.set()
        assert await second == "scripted"


async def test_unknown_model_asks_at_most_once_in_five_seconds(upstream: ScriptedUpstream) -> None:
    upstream.script = lambda exchange: exchange.answer_json(listing("a"))
    async with asked(upstream) as (pool, clock):
        await pool.catalogue()
        for _ in range(3):
            assert await upstream_of(pool, "new") is None
        assert len(upstream.requests) == 1
        clock.now += 6
        upstream.script = lambda exchange: exchange.answer_json(listing("a", "new"))
        assert await upstream_of(pool, "new") == "scripted"
        assert await upstream_of(pool, "newer") is None
    assert len(upstream.requests) == 2


@pytest.mark.parametrize(
    "answer",
    [(500, b"oops"), (200, b"oops"), (200, b'"oops"'), (200, b"{}"), (200, b'{"data": 5}'), (429, b"")],
)
async def test_failing_discovery_keeps_what_was_known(
    upstream: ScriptedUpstream, answer: tuple[int, bytes]
) -> None:
    upstream.script = lambda exchange: exchange.answer_json(listing("a"))
    async with asked(upstream) as (pool, clock):
        await pool.catalogue()
        clock.now += 60
        upstream.script = lambda exchange: exchange.answer(*answer)
        assert await pool.catalogue() == {"a": "scripted"}
        assert await upstream_of(pool, "a") == "scripted"
        assert len(upstream.requests) == 2


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait longer for a listing than a test that does not wait for it may take."""
    monkeypatch.setattr("regate_adapters.backend.upstream_client._LISTING_SECONDS", 60)


@pytest.mark.usefixtures("patient")
async def test_known_model_does_not_wait_for_a_renewal(upstream: ScriptedUpstream) -> None:
    upstream.script = lambda exchange: exchange.answer_json(listing("a"))
    async with asked(upstream) as (pool, clock):
        await pool.catalogue()
        clock.now += 60
        upstream.script = lambda exchange: exchange.gone()
        async with asyncio.timeout(120):
            assert await upstream_of(pool, "a") == "scripted"


@pytest.mark.usefixtures("patient")
async def test_list_of_models_does_not_wait_long_for_an_upstream_that_hangs(
    upstream: ScriptedUpstream, new_upstream: type[ScriptedUpstream], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = new_upstream()
    upstream.script = other.script = lambda exchange: exchange.answer_json(listing("a"))
    configs = [upstream.config("one"), other.config("other", by_policy=True, aliases={"b": "a"})]
    async with other.serving(), asked(upstream, *configs) as (pool, clock):
        shown = await pool.model_entries(), await pool.reserved_entries()
        upstream.script = other.script = lambda exchange: exchange.gone()
        clock.now += 60
        monkeypatch.setattr("regate_adapters.backend.catalogue._RENEWAL_SECONDS", 0.05)
        async with asyncio.timeout(50):  # less than a listing may take
            assert (await pool.model_entries(), await pool.reserved_entries()) == shown


@pytest.mark.usefixtures("patient")
async def test_found_model_does_not_wait_for_an_upstream_that_hangs(
    upstream: ScriptedUpstream, new_upstream: type[ScriptedUpstream]
) -> None:
    upstream.script = lambda exchange: exchange.gone()
    other = new_upstream()
    other.script = lambda exchange: exchange.answer_json(listing("a"))
    async with (
        other.serving(),
        asked(upstream, upstream.config("hangs"), other.config("answers")) as (pool, _),
    ):
        async with asyncio.timeout(120):
            assert await upstream_of(pool, "a") == "answers"


async def test_unknown_model_is_no_absence_while_an_upstream_has_never_answered(
    upstream: ScriptedUpstream,
) -> None:
    upstream.script = lambda exchange: exchange.answer(500, b"oops")
    async with asked(upstream, upstream.config("down"), upstream.config("fixed", models=("a",))) as (pool, _):
        assert await upstream_of(pool, "a") == "fixed"
        with pytest.raises(UpstreamError):
            await upstream_of(pool, "b")


async def test_no_listing_at_all_is_an_error(upstream: ScriptedUpstream) -> None:
    upstream.script = lambda exchange: exchange.answer(500, b"oops")
    async with asked(upstream) as (pool, _):
        with pytest.raises(UpstreamError):
            await pool.model_entries()


_ENTRIES = [{"id": "a", "created": 5, "owned_by": "them"}, {"id": "b"}]


@pytest.mark.parametrize(
    "listing",
    [
        _ENTRIES,
        {"data": _ENTRIES},
        {"models": _ENTRIES},
        {"object": "list", "data": None, "models": _ENTRIES},
        {"models": [{"model": "a", "name": "A One", "created": 5, "owned_by": "them"}, {"name": "b"}]},
        {"data": [_ENTRIES[0], "b"]},
    ],
)
async def test_models_are_found_in_whatever_shape_they_are_listed(
    upstream: ScriptedUpstream, listing: Any
) -> None:
    upstream.script = lambda exchange: exchange.answer_json(listing)
    async with asked(upstream) as (pool, _):
        entries = await pool.model_entries()
    assert [(one["id"], one["created"], one["owned_by"]) for one in entries] == [
        ("a", 5, "them"),
        ("b", 0, "scripted"),
    ]


async def test_entries_of_a_listing_are_taken_with_care(upstream: ScriptedUpstream) -> None:
    odd = [
        {"id": 5},
        {"id": ""},
        {"id": "a\nb"},
        "two words",
        5,
        {},
        {"id": "x" * 300},
        {"id": "good", "created": "yesterday", "owned_by": "two words"},
    ]
    upstream.script = lambda exchange: exchange.answer_json({"data": odd})
    async with asked(upstream) as (pool, _):
        assert await pool.model_entries() == [
            {"id": "good", "object": "model", "created": 0, "owned_by": "scripted"}
        ]


async def test_null_listing_is_an_empty_one(upstream: ScriptedUpstream) -> None:
    upstream.script = lambda exchange: exchange.answer_json({"data": None})
    async with asked(upstream) as (pool, _):
        assert await pool.model_entries() == []


@pytest.mark.usefixtures("patient")
async def test_leaving_ends_a_fetch_under_way(upstream: ScriptedUpstream) -> None:
    begun, gone = asyncio.Event(), asyncio.Event()

    async def script(exchange: Exchange) -> None:
        begun.set()
        await exchange.gone()
        gone.set()

    upstream.script = script
    async with asyncio.timeout(120):
        async with Upstreams([upstream.config()]) as pool, asyncio.TaskGroup() as group:
            waiting = group.create_task(upstream_of(pool, "a"))
            await begun.wait()
            waiting.cancel()
        await gone.wait()
