"""Work that ends when its client leaves (`http/connection.py`), whoever else ends it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from regate_gateway.http.connection import ClientGone, while_connected
from regate_gateway.http.presence import Presence, tell


def scope_of(presence: Presence) -> dict[str, Any]:
    scope: dict[str, Any] = {"type": "http", "state": {}}
    tell(scope, presence)
    return scope


async def never() -> None:
    await asyncio.Event().wait()


async def test_work_that_ends_before_its_client_leaves_is_not_disturbed_later() -> None:
    presence = Presence()
    assert await while_connected(scope_of(presence), asyncio.sleep(0, "done")) == "done"
    presence.end()
    await asyncio.sleep(0)


async def test_work_ends_with_its_client_and_cleans_up_first() -> None:
    presence, cleaned = Presence(), []

    async def work() -> None:
        try:
            await never()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    asyncio.get_running_loop().call_soon(presence.end)
    with pytest.raises(ClientGone):
        await while_connected(scope_of(presence), work())
    task = asyncio.current_task()

    assert cleaned == [True]
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)  # and what comes after is not cancelled


async def test_client_that_left_before_gets_nothing_done() -> None:
    presence = Presence()
    presence.end()
    with pytest.raises(ClientGone):
        await while_connected(scope_of(presence), never())


async def test_work_that_does_not_heed_it_is_nobodys_all_the_same() -> None:
    presence = Presence()

    async def stubborn() -> str:
        try:
            await never()
        except asyncio.CancelledError:
            return "done"
        return "never"

    asyncio.get_running_loop().call_soon(presence.end)
    with pytest.raises(ClientGone):
        await while_connected(scope_of(presence), stubborn())


async def test_cancellation_from_elsewhere_stays_one() -> None:
    presence = Presence()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(while_connected(scope_of(presence), never()))
        await asyncio.sleep(0)
        task.cancel()
        presence.end()
    assert task.cancelled()


async def test_failure_is_raised_as_it_was() -> None:
    async def failing() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await while_connected(scope_of(Presence()), failing())
