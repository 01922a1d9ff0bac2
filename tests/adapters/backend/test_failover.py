"""Upstreams that cannot be reached: who is asked instead, when nobody may be, and how they come back.
Real sockets; the pauses are the test's.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.patience import PATIENT_SECONDS, until

from regate_adapters.backend.health import FAILURES, FRESH_SECONDS
from regate_adapters.backend.upstreams import Upstreams
from regate_orchestrator.errors import UpstreamError

if TYPE_CHECKING:
    from tests.adapters.backend.conftest import Exchange, ScriptedUpstream


class Hand:
    """A clock moved by hand."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Pauses:
    """Pauses that last until the test lets time pass."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._waiting: list[asyncio.Event] = []
        self.came = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        if seconds == 0.1:  # the moment before a refused connection is tried again
            return
        self.asked.append(seconds)
        event = asyncio.Event()
        self._waiting.append(event)
        self.came.set()
        await event.wait()

    async def passes(self) -> None:
        """Let the pause that is under way, or that comes next, end."""
        await self.came.wait()
        self.came.clear()
        self._waiting.pop(0).set()


@pytest.fixture
def nobody() -> Any:
    """A port at which connections are refused, until somebody listens on its socket."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    yield sock
    sock.close()


@asynccontextmanager
async def pool_of(*configs: Any) -> AsyncIterator[tuple[Upstreams, Hand, Pauses]]:
    clock, pauses = Hand(), Pauses()
    async with Upstreams(configs, clock=clock, pause=pauses) as pool:
        yield pool, clock, pauses


def dead(
    new_upstream: type[ScriptedUpstream], sock: socket.socket, name: str = "main", **changes: Any
) -> Any:
    return new_upstream().config(
        name, base_url=f"http://127.0.0.1:{sock.getsockname()[1]}/v1", models=("m",), **changes
    )


async def post(pool: Upstreams, *alternates: str, upstream: str = "main") -> bytes:
    async with pool.open(
        upstream, "/chat/completions", {"model": "m"}, accept_stream=False, alternates=alternates
    ) as response:
        return await response.read(limit=1_000)


async def failure(pool: Upstreams, *alternates: str) -> UpstreamError:
    with pytest.raises(UpstreamError) as raised:
        await post(pool, *alternates)
    return raised.value


async def test_refused_connection_goes_to_the_alternate_under_its_own_name_of_the_model(
    upstream: ScriptedUpstream, new_upstream: type[ScriptedUpstream], nobody: socket.socket
) -> None:
    upstream.script = lambda exchange: exchange.answer(200, b"instead")
    spare = upstream.config("spare", models=(), aliases={"m": "its-own"}, fallback_for=("main",))
    async with pool_of(dead(new_upstream, nobody), spare) as (pool, _, _):
        assert await post(pool, "spare") == b"instead"
    assert [json.loads(exchange.body) for exchange in upstream.requests] == [{"model": "its-own"}]


async def test_without_alternates_nobody_else_is_asked(
    upstream: ScriptedUpstream, new_upstream: type[ScriptedUpstream], nobody: socket.socket
) -> None:
    spare = upstream.config("spare", models=("m",), fallback_for=("main",))
    async with pool_of(dead(new_upstream, nobody), spare) as (pool, _, _):
        error = await failure(pool)
    assert (error.status, error.code, upstream.requests) == (502, "upstream_error", [])


async def answers_503(exchange: Exchange) -> None:
    await exchange.answer(503, b"", "Retry-After: 0")


async def resets(exchange: Exchange) -> None:
    exchange.reset()


async def breaks_off(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    exchange.reset()


async def says_nothing(exchange: Exchange) -> None:
    await exchange.gone()


@pytest.mark.parametrize("script", [answers_503, resets, breaks_off, says_nothing])
async def test_request_that_was_sent_is_never_sent_anywhere_else(
    upstream: ScriptedUpstream, new_upstream: type[ScriptedUpstream], script: Any
) -> None:
    upstream.script = script
    other = new_upstream()
    async with (
        other.serving(),
        pool_of(upstream.config("main", timeout_s=1.0), other.config("spare")) as (pool, _, _),
    ):
        await failure(pool, "spare")
    assert (len(upstream.requests), other.requests) == (1, [])


async def test_upstream_in_trouble_is_not_waited_for(
    new_upstream: type[ScriptedUpstream], nobody: socket.socket
) -> None:
    async with pool_of(dead(new_upstream, nobody)) as (pool, _, pauses):
        errors = [await failure(pool) for _ in range(FAILURES + 1)]
        assert [error.retry_after for error in errors] == [None, None, None, "10"]
        assert {(error.status, error.code, error.message) for error in errors} == {
            (502, "upstream_error", "The backend cannot be reached.")
        }
        assert (pool.reach(), "not asked" in errors[-1].detail) == ({"main": "unreachable"}, True)
        await pauses.came.wait()
    assert pauses.asked == [0.5]


async def test_trials_grow_rare_and_the_first_that_succeeds_ends_the_trouble(
    new_upstream: type[ScriptedUpstream], nobody: socket.socket
) -> None:
    main = new_upstream()
    main.script = lambda exchange: exchange.answer(404, b"no such path")  # any answer will do
    async with pool_of(dead(new_upstream, nobody)) as (pool, _, pauses), AsyncExitStack() as stack:
        for _ in range(FAILURES):
            await failure(pool)
        for _ in range(6):
            await pauses.passes()
        await pauses.came.wait()
        assert pauses.asked == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
        assert (await failure(pool)).retry_after is not None
        await stack.enter_async_context(main.serving(nobody))
        await pauses.passes()
        async with asyncio.timeout(120):
            while pool.reach() != {"main": "ok"}:
                await asyncio.sleep(0)
        main.script = lambda exchange: exchange.answer(200, b"back")
        assert await post(pool) == b"back"
    assert [(exchange.method, exchange.path) for exchange in main.requests] == [
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
    ]


async def test_trouble_sends_requests_straight_to_the_alternate_and_back_when_it_is_over(
    upstream: ScriptedUpstream, new_upstream: type[ScriptedUpstream], nobody: socket.socket
) -> None:
    upstream.script = lambda exchange: exchange.answer(200, b"spare")
    main = new_upstream()
    main.script = lambda exchange: exchange.answer(200, b"main")
    spare = upstream.config("spare", models=("m",), fallback_for=("main",))
    async with pool_of(dead(new_upstream, nobody), spare) as (pool, clock, _), AsyncExitStack() as stack:
        for _ in range(FAILURES):
            await post(pool, "spare")
        await stack.enter_async_context(main.serving(nobody))
        in_trouble = await post(pool, "spare")
        clock.now += 10  # without a trial the circuit closes by itself
        assert (in_trouble, await post(pool, "spare")) == (b"spare", b"main")


async def test_readiness_needs_one_upstream_that_can_be_reached(
    upstream: ScriptedUpstream, new_upstream: type[ScriptedUpstream], nobody: socket.socket
) -> None:
    upstream.script = lambda exchange: exchange.answer(401, b"who are you?")
    async with pool_of(dead(new_upstream, nobody), upstream.config("spare", models=("m",))) as (
        pool,
        clock,
        _,
    ):
        before = pool.reach()
        await pool.check()
        assert (before, pool.reach()) == (
            {"main": "unknown", "spare": "unknown"},
            {"main": "unreachable", "spare": "ok"},
        )
        await pool.check()
        assert len(upstream.requests) == 1  # what was heard is good for half a minute
        clock.now += FRESH_SECONDS
        await pool.check()
        assert len(upstream.requests) == 2


async def test_readiness_fails_when_nobody_can_be_reached(
    new_upstream: type[ScriptedUpstream], nobody: socket.socket
) -> None:
    async with pool_of(dead(new_upstream, nobody)) as (pool, _, _):
        with pytest.raises(UpstreamError):
            await pool.check()


async def test_upstream_that_hangs_keeps_readiness_from_nobody_else(
    upstream: ScriptedUpstream, new_upstream: type[ScriptedUpstream], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regate_adapters.backend.upstreams._OTHERS_SECONDS", 0.05)
    hanging = new_upstream()
    upstream.script = hanging.script = lambda exchange: exchange.answer_json({"data": [{"id": "m"}]})
    async with (
        hanging.serving(),
        pool_of(hanging.config("main"), upstream.config("spare")) as (pool, clock, _),
    ):
        await pool.check()
        hanging.script = lambda exchange: exchange.gone()
        clock.now += FRESH_SECONDS
        async with asyncio.timeout(PATIENT_SECONDS / 2):  # less than the hanging one has
            await pool.check()
        assert pool.reach()["spare"] == "ok"
        await until(lambda: len(hanging.requests) > 1)


async def test_readiness_tells_of_the_only_upstream_that_hangs(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.script = lambda exchange: exchange.answer_json({"data": [{"id": "m"}]})
    async with pool_of(upstream.config("main")) as (pool, clock, _):
        await pool.check()
        upstream.script = lambda exchange: exchange.gone()
        clock.now += FRESH_SECONDS
        with monkeypatch.context() as impatient:
            impatient.setattr("regate_adapters.backend.upstream_client._CONTACT_SECONDS", 0.05)
            impatient.setattr("regate_adapters.backend.upstreams._CHECK_SECONDS", 0.5)
            with pytest.raises(UpstreamError, match="cannot be reached"):
                await pool.check()
        assert pool.reach() == {"main": "unreachable"}
        clock.now += FRESH_SECONDS
        upstream.script = lambda exchange: exchange.answer_json({"data": [{"id": "m"}]})
        await pool.check()


async def test_upstream_that_never_lists_its_models_is_said_not_to_answer(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regate_adapters.backend.upstream_client._LISTING_SECONDS", 0.05)
    upstream.script = lambda exchange: exchange.gone()
    async with pool_of(upstream.config("main")) as (pool, _, _):
        with pytest.raises(UpstreamError) as raised:
            await pool.catalogue()
    assert raised.value.detail.endswith("main: TimeoutError: no answer in time")


async def test_readiness_fails_when_nobody_ever_said_what_it_serves(upstream: ScriptedUpstream) -> None:
    upstream.script = lambda exchange: exchange.answer(500, b"oops")
    async with pool_of(upstream.config("main")) as (pool, _, _):
        with pytest.raises(UpstreamError):
            await pool.check()


async def test_connection_that_never_comes_about_goes_to_the_alternate(
    upstream: ScriptedUpstream, new_upstream: type[ScriptedUpstream], monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.script = lambda exchange: exchange.answer(200, b"instead")
    monkeypatch.setattr("regate_adapters.backend.upstream_client._CONNECT_SECONDS", 1.0)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with (
            socket.socket() as first,
            socket.socket() as second,
        ):  # they fill the queue, so that nobody else is let in
            for one in (first, second):
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            async with pool_of(dead(new_upstream, full), upstream.config("spare", models=("m",))) as (
                pool,
                _,
                _,
            ):
                assert await post(pool, "spare") == b"instead"
                assert pool.reach() == {"main": "unreachable", "spare": "ok"}
