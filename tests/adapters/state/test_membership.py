"""Gateways on one database: who is present, whose is what is in flight, and what becomes of it when
its gateway is gone. Conformance.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from tests.adapters.state.samples import (
    ANN,
    BOB,
    EVE,
    PATIENT_SECONDS,
    conversation_of,
    event_of,
    items_of,
    response_of,
)

from regate_adapters.state.store import SqlStateStore
from regate_orchestrator.errors import GatewayStopped, InvalidRequest, StateUnavailable
from regate_orchestrator.rows import KeyUse, LoggedEvent, ResponseRow
from regate_orchestrator.values import ConversationId, JsonObject, ResponseId

CONVERSATION, RESPONSE, OTHER = ConversationId("conv_1"), ResponseId("resp_1"), ResponseId("resp_2")
ERROR: JsonObject = {"code": "server_error", "message": "interrupted"}
LEASE_SECONDS = 60


@dataclass
class Clock:
    now: float = 1_000

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def one(url: str, clock: Clock) -> AsyncIterator[SqlStateStore]:
    """The gateway that is at something."""
    async with SqlStateStore.open(url, clock=clock, deadline_s=PATIENT_SECONDS) as store:
        await store.conversations.add(conversation_of(ANN), items_of("msg_1"))
        await store.membership.heartbeat(ttl_s=LEASE_SECONDS)
        yield store


@pytest.fixture
async def other(one: SqlStateStore, url: str, clock: Clock) -> AsyncIterator[SqlStateStore]:
    """The gateway that stays."""
    async with SqlStateStore.open(url, clock=clock, deadline_s=PATIENT_SECONDS) as store:
        await store.membership.heartbeat(ttl_s=10 * LEASE_SECONDS)
        yield store


def turn_of(status: str = "completed", name: str = "resp_1", **changes: Any) -> ResponseRow:
    return replace(response_of(ANN, name), status=status, conversation_id=CONVERSATION, **changes)


async def begin(store: SqlStateStore, status: str = "in_progress") -> ResponseRow:
    """Have everything in flight: a background response with a log, the lock of its conversation,
    and a key.
    """
    row = turn_of(status, background=True)
    await store.conversations.lock(ANN, CONVERSATION, RESPONSE)
    await store.responses.save(row)
    await store.events.append(ANN, RESPONSE, [event_of(0), event_of(1)])
    await store.idempotency_keys.claim(ANN, "key", fingerprint="f", claim="c1", at=1_000)
    return row


async def is_locked(store: SqlStateStore) -> bool:
    try:
        await store.conversations.lock(ANN, CONVERSATION, ResponseId("resp_probe"))
    except InvalidRequest:
        return True
    await store.conversations.unlock(ANN, CONVERSATION, ResponseId("resp_probe"))
    return False


async def key_is_used(store: SqlStateStore) -> bool:
    return await store.idempotency_keys.claim(ANN, "key", fingerprint="f", claim="probe", at=1_001) == KeyUse(
        "f", None
    )


async def in_flight(store: SqlStateStore) -> tuple[str | None, bool, bool]:
    """What is left of what was begun: its status, its lock, its key."""
    return await store.responses.status(ANN, RESPONSE), await is_locked(store), await key_is_used(store)


# ---------------------------------------------------------------- whose it is


async def test_what_a_present_gateway_has_in_flight_is_left_alone(
    one: SqlStateStore, other: SqlStateStore, clock: Clock
) -> None:
    await begin(one)
    clock.now += LEASE_SECONDS - 1
    assert (await other.membership.end_interrupted(error=ERROR), await in_flight(other)) == (
        0,
        ("in_progress", True, True),
    )


async def test_presence_that_is_renewed_does_not_lapse(
    one: SqlStateStore, other: SqlStateStore, clock: Clock
) -> None:
    await begin(one)
    for _ in range(3):
        clock.now += LEASE_SECONDS - 1
        await one.membership.heartbeat(ttl_s=LEASE_SECONDS)
    assert (await other.membership.end_interrupted(error=ERROR), await in_flight(other)) == (
        0,
        ("in_progress", True, True),
    )


@pytest.mark.parametrize("end", ["lapsed", "departed"])
@pytest.mark.parametrize("status", ["queued", "in_progress"])
async def test_what_a_gateway_that_is_gone_had_in_flight_is_ended(
    one: SqlStateStore, other: SqlStateStore, clock: Clock, status: str, end: str
) -> None:
    row = await begin(one, status)
    if end == "lapsed":
        clock.now += LEASE_SECONDS
    else:
        await one.membership.leave()
        await one.membership.leave()
    counts = [await other.membership.end_interrupted(error=ERROR) for _ in range(2)]
    body = {**row.body, "status": "failed", "error": ERROR}
    last = LoggedEvent(
        {"type": "response.failed", "sequence_number": 2, "response": {**body, "output": [row.items[1].body]}}
    )
    found = await other.responses.get(ANN, RESPONSE), await other.events.read(ANN, RESPONSE, after=1, limit=9)
    assert (counts, found, await in_flight(other)) == (
        [1, 0],
        (replace(row, status="failed", body=body), [last]),
        ("failed", False, False),
    )
    assert await other.conversations.items(ANN, CONVERSATION) == items_of("msg_1")


async def test_what_was_opened_without_being_present_is_nobodys(
    one: SqlStateStore, other: SqlStateStore, url: str, clock: Clock
) -> None:
    await begin(one)
    async with SqlStateStore.open(url, clock=clock, deadline_s=PATIENT_SECONDS) as tool:
        await tool.responses.save(replace(response_of(ANN, "resp_2"), status="in_progress"))
    ended = await other.membership.end_interrupted(error=ERROR)
    assert (ended, await other.responses.status(ANN, OTHER), await in_flight(other)) == (
        1,
        "failed",
        ("in_progress", True, True),
    )


async def test_gateway_never_ends_its_own_even_if_its_presence_has_lapsed(
    one: SqlStateStore, clock: Clock
) -> None:
    await begin(one)
    clock.now += 2 * LEASE_SECONDS
    assert (await one.membership.end_interrupted(error=ERROR), await in_flight(one)) == (
        0,
        ("in_progress", True, True),
    )


async def test_all_others_are_gone_where_none_can_be(one: SqlStateStore, other: SqlStateStore) -> None:
    await begin(one)
    await other.membership.forget_others()
    assert (await other.membership.end_interrupted(error=ERROR), await in_flight(other)) == (
        1,
        ("failed", False, False),
    )


async def test_what_has_ended_is_left_as_it_is(one: SqlStateStore, other: SqlStateStore) -> None:
    await begin(one)
    await one.responses.save(turn_of())
    await one.idempotency_keys.finish(ANN, "key", claim="c1", created="resp_1", fingerprint="f1")
    await one.membership.leave()
    ended = await other.membership.end_interrupted(error=ERROR)
    key = await other.idempotency_keys.claim(ANN, "key", fingerprint="f", claim="probe", at=1_001)
    assert (ended, await other.responses.get(ANN, RESPONSE), key) == (
        0,
        replace(turn_of()),
        KeyUse("f1", "resp_1"),
    )


async def test_response_without_a_log_gets_none(one: SqlStateStore, other: SqlStateStore) -> None:
    await one.responses.save(replace(response_of(ANN), status="in_progress", background=True))
    await one.responses.save(replace(response_of(ANN, "resp_2"), status="in_progress"))
    await one.events.append(ANN, OTHER, [event_of(0)])
    await one.membership.leave()
    await other.membership.end_interrupted(error=ERROR)
    logs = [await other.events.read(ANN, response, after=-1, limit=9) for response in (RESPONSE, OTHER)]
    assert logs == [[], [event_of(0)]]


async def test_lock_for_a_response_that_was_never_stored_is_let_go(
    one: SqlStateStore, other: SqlStateStore
) -> None:
    await one.conversations.lock(ANN, CONVERSATION, RESPONSE)
    locked = await is_locked(other)
    await one.membership.leave()
    assert (locked, await other.membership.end_interrupted(error=ERROR), await is_locked(other)) == (
        True,
        0,
        False,
    )


async def test_gateways_that_end_the_same_at_once_end_it_once(
    one: SqlStateStore, url: str, clock: Clock
) -> None:
    names = [f"resp_{number}" for number in range(20)]
    for name in names:
        await one.responses.save(replace(response_of(ANN, name), status="in_progress", background=True))
        await one.events.append(ANN, ResponseId(name), [event_of(0)])
    await one.membership.leave()

    async def start() -> int:
        async with SqlStateStore.open(url, clock=clock, deadline_s=PATIENT_SECONDS) as store:
            await store.membership.heartbeat(ttl_s=LEASE_SECONDS)
            return await store.membership.end_interrupted(error=ERROR)

    counts = await asyncio.gather(*(start() for _ in range(4)))
    logs = [len(await one.events.read(ANN, ResponseId(name), after=-1, limit=9)) for name in names]
    assert (sum(counts), logs) == (20, [2] * 20)


# ---------------------------------------------------------------- who was only taken for gone


@pytest.fixture
async def taken(one: SqlStateStore, other: SqlStateStore, clock: Clock) -> SqlStateStore:
    """A gateway whose response was failed by another while it went on."""
    await begin(one)
    clock.now += LEASE_SECONDS
    await other.membership.end_interrupted(error=ERROR)
    return one


LATE: dict[str, tuple[Callable[[SqlStateStore], Awaitable[object]], type[Exception]]] = {
    "completed": (lambda store: store.responses.save(turn_of("completed", background=True)), GatewayStopped),
    "failed": (lambda store: store.responses.save(turn_of("failed", background=True)), GatewayStopped),
    "cancelled": (lambda store: store.responses.save(turn_of("cancelled", background=True)), GatewayStopped),
    "in_progress": (
        lambda store: store.responses.save(turn_of("in_progress", background=True)),
        GatewayStopped,
    ),
    "events": (lambda store: store.events.append(ANN, RESPONSE, [event_of(3)]), StateUnavailable),
}


@pytest.mark.parametrize("back", [False, True], ids=["still away", "present again"])
@pytest.mark.parametrize("name", LATE)
async def test_response_that_was_ended_stays_as_it_ended(
    taken: SqlStateStore, other: SqlStateStore, name: str, back: bool
) -> None:
    before = (
        await other.responses.get(ANN, RESPONSE),
        await other.events.read(ANN, RESPONSE, after=-1, limit=9),
    )
    if back:
        await taken.membership.heartbeat(ttl_s=LEASE_SECONDS)
    late, refusal = LATE[name]
    with pytest.raises(refusal):
        await late(taken)
    after = (
        await other.responses.get(ANN, RESPONSE),
        await other.events.read(ANN, RESPONSE, after=-1, limit=9),
    )
    assert (after, await in_flight(other), await other.conversations.items(ANN, CONVERSATION)) == (
        before,
        ("failed", False, False),
        items_of("msg_1"),
    )


async def test_turn_that_was_ended_is_not_mixed_with_the_next(
    taken: SqlStateStore, other: SqlStateStore
) -> None:
    await other.conversations.lock(ANN, CONVERSATION, OTHER)
    with pytest.raises(GatewayStopped):
        await taken.responses.save(turn_of(background=True))
    await taken.conversations.unlock(ANN, CONVERSATION, RESPONSE)
    locked = await is_locked(other)
    await other.responses.save(turn_of(name="resp_2"))
    found = await other.conversations.items(ANN, CONVERSATION)
    assert (locked, found) == (True, [*items_of("msg_1"), *turn_of(name="resp_2").items])


async def test_gateway_that_was_taken_for_gone_is_present_again(
    taken: SqlStateStore, other: SqlStateStore
) -> None:
    await taken.membership.heartbeat(ttl_s=LEASE_SECONDS)
    await taken.responses.save(replace(response_of(ANN, "resp_2"), status="in_progress"))
    ended = await other.membership.end_interrupted(error=ERROR)
    await taken.responses.save(response_of(ANN, "resp_2"))
    assert (ended, await other.responses.get(ANN, OTHER)) == (0, response_of(ANN, "resp_2"))


async def test_saving_and_being_ended_at_once_is_one_of_the_two(
    one: SqlStateStore, other: SqlStateStore, clock: Clock
) -> None:
    seen = set()
    for number in range(20):
        name = ResponseId(f"resp_{number}")
        await one.membership.heartbeat(ttl_s=LEASE_SECONDS)
        await one.conversations.lock(ANN, CONVERSATION, name)
        await one.responses.save(turn_of("in_progress", name))
        before = len(await one.conversations.items(ANN, CONVERSATION) or [])
        clock.now += LEASE_SECONDS
        saved, ended = await asyncio.gather(
            one.responses.save(turn_of("completed", name)),
            other.membership.end_interrupted(error=ERROR),
            return_exceptions=True,
        )
        appended = len(await one.conversations.items(ANN, CONVERSATION) or []) - before
        seen.add((type(saved), ended, await one.responses.status(ANN, name), appended, await is_locked(one)))
        await other.membership.heartbeat(ttl_s=10 * LEASE_SECONDS)
    assert seen <= {(type(None), 0, "completed", 2, False), (GatewayStopped, 1, "failed", 0, False)}


# ---------------------------------------------------------------- asking another gateway


async def test_running_gateway_finds_the_wish_that_its_response_be_cancelled(
    one: SqlStateStore, other: SqlStateStore
) -> None:
    await begin(one)
    before = await one.responses.cancel_requests()
    asked = await other.responses.request_cancel(BOB, RESPONSE)  # whether Bob may, was decided before
    found = [await store.responses.cancel_requests() for store in (one, other)]
    await one.responses.save(turn_of("cancelled", background=True))
    assert (before, asked, found, await one.responses.cancel_requests()) == ([], True, [[RESPONSE], []], [])


@pytest.mark.parametrize("name", ["own", "foreign", "absent", "ended", "foreground", "gone"])
async def test_nobody_is_asked_where_no_other_gateway_would_hear(
    one: SqlStateStore, other: SqlStateStore, clock: Clock, name: str
) -> None:
    row = await begin(one)
    match name:
        case "ended":
            await one.responses.save(turn_of("failed", background=True))
        case "foreground":
            await one.responses.save(replace(row, background=False))
        case "gone":
            clock.now += LEASE_SECONDS
    asked = await (one if name == "own" else other).responses.request_cancel(
        EVE if name == "foreign" else ANN, ResponseId("resp_9") if name == "absent" else RESPONSE
    )
    assert (asked, await one.responses.cancel_requests()) == (False, [])
