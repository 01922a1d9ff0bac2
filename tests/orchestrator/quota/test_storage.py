"""Room for what is stored: a sum is used for a few seconds, and nobody is refused by an old one."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from tests.orchestrator.scripted import Policy, Records

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.errors import NotPermitted
from regate_orchestrator.principal import Principal
from regate_orchestrator.quota.storage import RULE, Storage
from regate_orchestrator.values import RequestId

CONTEXT = Context(Principal("ann", "acme"), RequestId("req_1"))


@dataclass
class Stored:
    """What is stored, and how often it was added up."""

    bytes: int = 0
    sums: int = 0

    async def of(self, principal: Principal) -> int:
        self.sums += 1
        return self.bytes


@dataclass
class Place:
    stored: Stored = field(default_factory=Stored)
    now: float = 0.0

    def __post_init__(self) -> None:
        policy = Policy(answers={RULE: {"max_bytes": 100}})
        self.storage = Storage(Enforcer(policy, Records(), {}), self.stored, clock=lambda: self.now)

    async def store(self, size: int, *, context: Context = CONTEXT) -> None:
        async with self.storage.room(context, {}, size=size):
            self.stored.bytes += size


async def test_sum_is_used_again_with_what_was_stored_since() -> None:
    place = Place()
    for _ in range(10):
        await place.store(10)

    assert place.stored.sums == 1
    with pytest.raises(NotPermitted):
        await place.store(1)


async def test_old_sum_refuses_nobody() -> None:
    place = Place()
    await place.store(100)
    place.stored.bytes = 0  # deleted
    await place.store(100)

    assert place.stored.sums == 2


async def test_sum_ends_after_a_few_seconds() -> None:
    place = Place()
    await place.store(10)
    place.stored.bytes = 95  # by another gateway
    place.now += 5
    with pytest.raises(NotPermitted):
        await place.store(10)


async def test_of_who_does_not_come_back_no_sum_is_kept() -> None:
    place, held = Place(), []
    for number in range(100):
        await place.store(0, context=Context(Principal(f"p{number}", "acme"), RequestId("req_1")))
        held.append(place.storage.held)
        place.now += 1

    assert max(held) == 5


async def test_a_sum_made_anew_is_kept_for_as_long_as_others() -> None:
    place, bob = Place(), Context(Principal("bob", "acme"), RequestId("req_2"))
    await place.store(0)
    place.now += 4
    await place.store(0, context=bob)
    place.now += 4
    await place.store(0)
    place.now += 4
    await place.store(0, context=bob)
    await place.store(0)

    assert place.stored.sums == 4
    assert place.storage.held == 2
