"""Two gateways on one PostgreSQL: neither harms what the other is at, and what one that died was at is
ended by the other.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import openai
import pytest
from tests.deployments import Deployment, only_on
from tests.e2e.conftest import ScriptedUpstream, World, text
from tests.e2e.test_background import gated, until
from tests.e2e.test_process import hanging, headers, served
from tests.e2e.test_scoped_quotas import say_scoped
from tests.orchestrator.responses.playbook import check_stream

from regate_gateway.composition.maintenance import Rhythm
from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running

pytestmark = only_on("postgres")

Start = Callable[..., AbstractAsyncContextManager[World]]

KEY = {"Idempotency-Key": "one-key"}
INTERRUPTED = {"code": "server_error", "message": "The gateway stopped before the response was complete."}
LAPSED_SECONDS = 120
SETTLED_SECONDS = 60


@dataclass
class Clock:
    """The time, by which a gateway's presence lapses, and how far it is ahead of the others'."""

    ahead: float = 0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def start(
    configure: Callable[..., Settings],
    upstream: ScriptedUpstream,
    policies: Path,
    deployment: Deployment,
    tmp_path: Path,
) -> Start:
    """What starts a gateway of this name on the one database. All it shares with the others is in there."""

    @asynccontextmanager
    async def started(
        name: str, *, tools: Any = None, sealing: Mapping[str, str] = MappingProxyType({}), **options: Any
    ) -> AsyncIterator[World]:
        memory = {"stores": {"main": {"kind": "memory"}}}
        settings = configure(
            data_dir=tmp_path / name, vector=memory, tools=tools or {}, state={**deployment.state, **sealing}
        )
        app, gateway = gateway_app(settings, **options)
        async with Running(app, settings.listen) as server:
            world = World(server.url, settings, gateway, upstream, policies)
            yield world
            for client in world.clients:
                await client.close()

    return started


def ask(**more: Any) -> dict[str, Any]:
    return {"model": "small", "input": "Hi", **more}


async def events_from(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in answer.aiter_lines():
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


async def first(events: AsyncIterator[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The first of these events that is of this type; the others before it are passed over."""
    return await anext(event async for event in events if event["type"] == kind)


def shown(event: Any) -> dict[str, Any]:
    """An event of the official client without its padding."""
    return {name: value for name, value in event.to_dict().items() if name != "obfuscation"}


async def said_in(world: World, conversation: str) -> list[str]:
    items = await world.client().conversations.items.list(conversation, order="asc")
    return ["".join(part.text for part in item.content) for item in items.data]  # type: ignore[union-attr, misc]


# ---------------------------------------------------------------- side by side


async def test_gateways_that_count_for_themselves_warn_once_somebody_is_limited(
    start: Start, policies: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regate_gateway.composition.sharing._LOOK_SECONDS", 0.02)
    say_scoped(policies, tenants={"globex": {"rpm": 9}})

    def warned() -> list[int]:
        return [one.__dict__["count"] for one in caplog.records if one.message == "quotas_not_shared"]

    async with (
        start("a") as one,
        start("b"),
        one.http("ann", "acme") as unlimited,
        one.http("eve", "globex") as limited,
    ):
        assert one.gateway.services is not None
        await unlimited.post("/embeddings", json={"model": "small", "input": "x"})
        before = one.gateway.services.quotas.limited, warned()
        await limited.post("/embeddings", json={"model": "small", "input": "x"})
        async with asyncio.timeout(SETTLED_SECONDS):
            while not warned():
                await asyncio.sleep(0.01)

    assert (before, warned()) == ((False, []), [1])


@pytest.mark.parametrize("shared", [False, True])
async def test_gateway_that_starts_beside_another_warns_when_neither_could_open_what_the_other_sealed(
    start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    monkeypatch.setenv("SEALING_KEY", "k" * 32)
    sealing = {"sealing_key_env": "SEALING_KEY"} if shared else {}
    async with start("a", sealing=sealing):
        alone = [record.message for record in caplog.records]
        async with start("b", sealing=sealing):
            pass
    warned = [
        record.__dict__["count"] for record in caplog.records if record.message == "sealing_key_not_shared"
    ]

    assert ("sealing_key_not_shared" in alone, warned) == (False, [] if shared else [1])


async def test_starting_a_gateway_leaves_alone_what_another_is_at(
    start: Start, upstream: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    upstream.turns = [gated(gate, "In the", " background."), gated(gate, "In", " time.")]
    async with start("a") as a, a.http() as http:
        conversation = (await a.client().conversations.create()).id
        background = await a.client().responses.create(
            model="small", input="Hi", background=True, conversation=conversation
        )
        await until(a.client(), background.id, "in_progress")
        async with http.stream("POST", "/responses", json=ask(stream=True), headers=KEY) as answer:
            events = events_from(answer)
            streamed = (await first(events, "response.in_progress"))["response"]["id"]
            async with start("b", rhythm=Rhythm(sweep_s=0.1)) as b, b.http() as via:
                seen = [
                    (await via.get(f"/responses/{name}")).json()["status"]
                    for name in (background.id, streamed)
                ]
                refused = [
                    (await via.post("/responses", json=ask(conversation=conversation))).json()["error"][
                        "code"
                    ],
                    (await via.post("/responses", json=ask(stream=True), headers=KEY)).json()["error"][
                        "code"
                    ],
                ]
                gate.set()
                ended = await first(events, "response.completed")
                finished = await until(b.client(), background.id, "completed", "failed")
                said = await said_in(b, conversation)

    assert (seen, refused) == (["in_progress"] * 2, ["conversation_locked", "idempotency_in_progress"])
    assert (ended["response"]["id"], finished.status, said) == (
        streamed,
        "completed",
        ["Hi", "In the background."],
    )


async def test_gateway_that_ends_is_gone_when_it_has_ended_what_it_was_at(
    start: Start, upstream: ScriptedUpstream, deployment: Deployment
) -> None:
    gate = asyncio.Event()
    upstream.turns = [gated(gate, "Begun", " never")]
    present = []
    async with start("b") as b:
        async with start("a") as a:
            queued = await a.client().responses.create(model="small", input="Hi", background=True)
            await until(b.client(), queued.id, "in_progress")
            present += deployment.query("SELECT count(*) FROM gateways")
        present += deployment.query("SELECT count(*) FROM gateways")
        found = await b.client().responses.retrieve(queued.id)
    present += deployment.query("SELECT count(*) FROM gateways")
    assert (present, found.status, found.error and found.error.to_dict()) == (
        [(2,), (1,), (0,)],
        "failed",
        INTERRUPTED,
    )


# ---------------------------------------------------------------- killed, or taken for gone


async def test_what_a_killed_gateway_was_at_is_ended_by_another_once_it_must_be_gone(
    start: Start, upstream: ScriptedUpstream, deployment: Deployment, tmp_path: Path
) -> None:
    upstream.turns = [hanging, hanging, text("Again.")]
    clock = Clock()
    (tmp_path / "killed").mkdir()
    async with start("b", clock=clock, rhythm=Rhythm(sweep_s=0.1)) as b, b.http() as via:
        async with (
            served(tmp_path / "killed", upstream.url, state=deployment.state) as (url, process),
            httpx.AsyncClient(base_url=f"{url}/v1", headers=headers(), timeout=SETTLED_SECONDS) as http,
        ):
            conversation = (await http.post("/conversations", json={})).json()["id"]
            turn, background = ask(stream=True, conversation=conversation), ask(stream=True, background=True)
            async with (
                http.stream("POST", "/responses", json=turn, headers=KEY) as one,
                http.stream("POST", "/responses", json=background) as other,
            ):
                streams = [
                    events_from(answer) for answer in (one, other)
                ]  # kept: to let go of one is to leave
                identifiers = [
                    (await first(events, "response.in_progress"))["response"]["id"] for events in streams
                ]
                following = await b.client().responses.retrieve(identifiers[1], stream=True)
                seen = [await anext(aiter(following))]
                process.send_signal(signal.SIGKILL)
                await process.wait()
        at_once = [(await via.get(f"/responses/{name}")).json()["status"] for name in identifiers]
        busy = (await via.post("/responses", json=turn, headers=KEY)).status_code
        clock.ahead = LAPSED_SECONDS
        failed = [await until(b.client(), name, "failed", "completed") for name in identifiers]
        seen += [event async for event in following]
        replayed = [event async for event in await b.client().responses.retrieve(identifiers[1], stream=True)]
        again = [event async for event in events_from(await via.post("/responses", json=turn, headers=KEY))][
            -1
        ]
        said = await said_in(b, conversation)

    assert (at_once, busy) == (["in_progress"] * 2, 409)
    assert [one.error.to_dict() for one in failed] == [INTERRUPTED] * 2
    assert [shown(event) for event in seen] == [shown(event) for event in replayed]
    assert (seen[-1].type, again["type"], said) == ("response.failed", "response.completed", ["Hi", "Again."])


async def test_gateway_that_is_started_again_ends_at_once_what_it_was_killed_in(
    start: Start, upstream: ScriptedUpstream, deployment: Deployment, tmp_path: Path
) -> None:
    upstream.turns = [hanging, text("Again.")]
    (tmp_path / "killed").mkdir()
    async with start("b"):  # so that the one that was killed has no reason to believe that it is alone
        async with (
            served(tmp_path / "killed", upstream.url, state=deployment.state) as (url, process),
            httpx.AsyncClient(base_url=f"{url}/v1", headers=headers(), timeout=SETTLED_SECONDS) as http,
        ):
            conversation = (await http.post("/conversations", json={})).json()["id"]
            turn = ask(stream=True, conversation=conversation)
            async with http.stream("POST", "/responses", json=turn) as answer:
                events = events_from(answer)
                identifier = (await first(events, "response.output_text.delta"))["item_id"]
                listed = (await http.get("/responses")).json()["data"]
                process.send_signal(signal.SIGKILL)
                await process.wait()
        async with (
            served(tmp_path / "killed", upstream.url, state=deployment.state) as (url, _),
            httpx.AsyncClient(base_url=f"{url}/v1", headers=headers(), timeout=SETTLED_SECONDS) as http,
        ):
            status = (await http.get(f"/responses/{listed[0]['id']}")).json()["status"]
            again = await http.post("/responses", json=ask(conversation=conversation))

    assert (bool(identifier), status, again.status_code) == (True, "failed", 200)


@pytest.mark.parametrize("background", [False, True], ids=["foreground", "background"])
async def test_response_of_a_gateway_that_was_taken_for_gone_stays_failed_for_everybody(
    start: Start, upstream: ScriptedUpstream, background: bool
) -> None:
    gate, clock = asyncio.Event(), Clock(LAPSED_SECONDS)
    upstream.turns = [gated(gate, "Too", " late."), text("In time.")]
    async with start("a") as a, a.http() as http:
        conversation = (await a.client().conversations.create()).id
        asked = ask(stream=True, background=background, conversation=conversation)
        async with http.stream("POST", "/responses", json=asked) as answer:
            events = events_from(answer)
            identifier = (await first(events, "response.in_progress"))["response"]["id"]
            async with start("b", clock=clock) as b:
                found = await b.client().responses.retrieve(identifier)
                gate.set()
                told = [event async for event in events][-1]
                after = [(await one.client().responses.retrieve(identifier)).to_dict() for one in (a, b)]
                replayed = [
                    event async for event in await b.client().responses.retrieve(identifier, stream=True)
                ][-1]
                await b.client().responses.create(model="small", input="Hi again", conversation=conversation)
                said = await said_in(a, conversation)

    assert (told["type"], told["response"]["error"], replayed.type) == (
        "response.failed",
        INTERRUPTED,
        "response.failed",
    )
    assert after == [found.to_dict()] * 2
    assert (found.status, found.error.to_dict(), said) == ("failed", INTERRUPTED, ["Hi again", "In time."])  # type: ignore[union-attr]


# ---------------------------------------------------------------- asked at one, going on at the other


@pytest.mark.parametrize("status", ["in_progress", "queued"])
async def test_background_response_is_cancelled_through_another_gateway(
    start: Start, upstream: ScriptedUpstream, status: str
) -> None:
    gate = asyncio.Event()
    upstream.turns = [gated(gate, "Begun", " never"), gated(gate, "Queued")]
    async with start("a", tools={"max_background": 1}) as a, start("b") as b:
        conversation = (await a.client().conversations.create()).id
        more: Any = (
            [{"conversation": conversation}, {}]
            if status == "in_progress"
            else [{}, {"conversation": conversation}]
        )
        running = await a.client().responses.create(model="small", input="Hi", background=True, **more[0])
        await until(b.client(), running.id, "in_progress")
        queued = await a.client().responses.create(model="small", input="Hi", background=True, **more[1])
        wanted = running if status == "in_progress" else queued
        cancelled = await b.client().responses.cancel(wanted.id)
        again = await b.client().responses.cancel(wanted.id)
        found = await a.client().responses.retrieve(wanted.id)
        gate.set()
        other = await until(
            b.client(), (queued if wanted is running else running).id, "completed", "failed", "cancelled"
        )
        await b.client().conversations.items.create(
            conversation, items=[{"type": "message", "role": "user", "content": "Free again."}]
        )

    assert [one.status for one in (cancelled, again, found, other)] == ["cancelled"] * 3 + ["completed"]
    assert upstream.closed_early == (1 if wanted is running else 0)


async def test_background_response_is_deleted_through_another_gateway_and_stays_deleted(
    start: Start, upstream: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    upstream.turns = [gated(gate, "Begun", " never")]
    async with start("a") as a, start("b") as b, b.http() as http:
        queued = await a.client().responses.create(model="small", input="Hi", background=True)
        await until(b.client(), queued.id, "in_progress")
        deleted = (await http.delete(f"/responses/{queued.id}")).json()["deleted"]
        async with asyncio.timeout(SETTLED_SECONDS):
            while upstream.closed_early == 0:
                await asyncio.sleep(0.01)
        left = [(await http.get(f"/responses/{queued.id}")).status_code]
    async with start("c") as c, c.http() as http:
        left.append((await http.get(f"/responses/{queued.id}")).status_code)
    assert (deleted, left) == (True, [404, 404])


async def test_another_persons_response_is_not_cancelled_through_another_gateway(
    start: Start, upstream: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    upstream.turns = [gated(gate, "Mine", ".")]
    async with start("a") as a, start("b") as b, b.http("mallory") as mallory:
        queued = await a.client().responses.create(model="small", input="Hi", background=True, stream=True)
        identifier = (await anext(aiter(queued))).response.id  # type: ignore[union-attr]
        answers = [
            await mallory.post(f"/responses/{identifier}/cancel"),
            await mallory.delete(f"/responses/{identifier}"),
            await mallory.get(f"/responses/{identifier}", params={"stream": "true"}),
        ]
        gate.set()
        finished = await until(b.client(), identifier, "completed", "cancelled", "failed")
    assert ([answer.status_code for answer in answers], finished.status) == ([404] * 3, "completed")


@pytest.mark.parametrize("after", [-1, 2])
async def test_background_response_is_followed_through_another_gateway(
    start: Start, upstream: ScriptedUpstream, after: int
) -> None:
    gate = asyncio.Event()
    upstream.turns = [gated(gate, "One", " two", " three.")]
    async with start("a") as a, start("b") as b:
        own = await a.client().responses.create(model="small", input="Hi", background=True, stream=True)
        events = aiter(own)
        told = [await anext(events)]
        followed = await b.client().responses.retrieve(told[0].response.id, stream=True, starting_after=after)  # type: ignore[union-attr]
        seen = []
        async for event in followed:
            seen.append(event)
            if event.type == "response.output_text.delta":  # which is told while the run goes on
                gate.set()
        told += [event async for event in events]
    check_stream([event.to_dict() for event in told])
    assert [shown(event) for event in seen] == [shown(event) for event in told[after + 1 :]]
    assert told[-1].response.output_text == "One two three."  # type: ignore[union-attr]


async def test_stream_of_a_response_ends_when_it_is_cancelled_at_another_gateway(
    start: Start, upstream: ScriptedUpstream
) -> None:
    upstream.turns = [gated(asyncio.Event(), "Begun", " never")]
    async with start("a") as a, start("b") as b:
        own = await a.client().responses.create(model="small", input="Hi", background=True, stream=True)
        events = aiter(own)
        told = [await anext(events)]
        identifier = told[0].response.id  # type: ignore[union-attr]
        followed = aiter(await b.client().responses.retrieve(identifier, stream=True))
        seen = [await anext(followed)]
        cancelled = await b.client().responses.cancel(identifier)
        told += [event async for event in events]
        seen += [event async for event in followed]
    assert (cancelled.status, [shown(event) for event in seen]) == (
        "cancelled",
        [shown(event) for event in told],
    )


async def test_response_that_is_not_streamed_is_not_followed_through_another_gateway(
    start: Start, upstream: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    upstream.turns = [gated(gate, "Quiet", ".")]
    async with start("a") as a, start("b") as b:
        queued = await a.client().responses.create(model="small", input="Hi", background=True)
        await until(b.client(), queued.id, "in_progress")
        with pytest.raises(openai.BadRequestError) as refusal:
            await b.client().responses.retrieve(queued.id, stream=True)
        gate.set()
    assert refusal.value.param == "stream"
