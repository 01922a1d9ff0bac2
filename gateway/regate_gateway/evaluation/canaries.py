"""Canaries: files that `regate eval` makes, each with a phrase that is in no other, and takes away again."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from regate_gateway.evaluation.member import Member, Refused
from regate_gateway.evaluation.questions import Question

Result = TypeVar("Result")

Tell = Callable[[str], None]
"""Tells whoever waits how far it is."""

RANK: Final = "eval_rank"
"""The attribute by which filters choose canaries: 0 and upwards within a tenant."""
_AT_ONCE: Final = 8
_LOOK_SECONDS: Final = 0.05
_INGESTION_SECONDS: Final = 900
_BATCH: Final = 1_000
_SKEW_SECONDS: Final = 86_400
_WORDS: Final = """
    anchor amber apple arrow autumn badge bakery balcony bamboo banner barrel basket beacon bell bicycle
    blanket bottle bridge bronze bucket butter button cabin camel candle canvas carpet castle cedar
    cherry chimney circle clover copper cotton cradle crystal curtain daisy desert diamond dolphin
    dragon drum eagle ember falcon feather fiddle forest fountain garden garlic ginger glacier granite
    guitar hammer harbor harvest hazel helmet honey island ivory jacket jasmine jungle kettle kitten
    ladder lantern lemon lily lizard magnet maple marble meadow mirror monkey mountain needle nutmeg oak
    ocean olive onion orange orchard otter oyster paddle palace panther pebble pepper piano pigeon
    pillow pine planet pocket pumpkin rabbit raven ribbon river rocket saddle salmon sandal silver
    spider spring statue sugar sunset temple thunder tiger tulip tunnel turtle valley velvet violin
    walnut whale willow window winter wolf yarn zebra
"""


@dataclass(frozen=True, slots=True)
class Canary:
    """A file of a tenant's with a phrase of its own."""

    tenant: str
    name: str
    phrase: str
    rank: int
    store: str
    file_id: str

    @property
    def question(self) -> Question:
        """Return what is asked to find it."""
        return Question(self.tenant, self.phrase, frozenset({self.name}), self.store)


@dataclass(slots=True)
class Planted:
    """All canaries, and whether all tenants have theirs in one store."""

    is_shared: bool
    canaries: list[Canary] = field(default_factory=list)

    def of(self, tenant: str) -> list[Canary]:
        """Return a tenant's, by rank."""
        return [canary for canary in self.canaries if canary.tenant == tenant]


@asynccontextmanager
async def planted(members: Mapping[str, Member], count: int, tell: Tell) -> AsyncIterator[Planted]:
    """Enter with so many canaries of each tenant, which can be found. All that was made is removed at the
    end, also when this is cancelled; what a killed process leaves expires by itself.
    """
    mark = f"regate-eval-{secrets.token_hex(6)}"
    began = time.time()
    try:
        stores, is_shared = await _stores(members, mark)
        found = Planted(is_shared)
        for tenant, member in members.items():
            tell(f"plants {count} canaries of {tenant}")
            found.canaries += await _plant(member, stores[tenant], count, mark, tell)
        yield found
    finally:
        tell("removes the canaries")
        failed: list[Refused] = []
        for member in members.values():
            try:
                await _remove(member, mark, since=began - _SKEW_SECONDS)
            except Refused as refusal:
                failed.append(refusal)
        if failed:
            raise Refused(f"canaries named {mark} are left behind: {failed[0]}")


async def _stores(members: Mapping[str, Member], mark: str) -> tuple[dict[str, str], bool]:
    """Return a store of each tenant: one of all where somebody may make it, and else one each."""
    body: dict[str, Any] = {"name": mark, "expires_after": {"anchor": "last_active_at", "days": 1}}
    for member in members.values():
        with suppress(Refused):  # one who may not share a store, or a deployment that has none of these
            made = await member.call(
                "POST", "vector_stores", body={**body, "metadata": {"regate.share": "all_tenants"}}
            )
            return dict.fromkeys(members, str(made["id"])), True
    made_each = {
        tenant: await member.call("POST", "vector_stores", body=body) for tenant, member in members.items()
    }
    return {tenant: str(made["id"]) for tenant, made in made_each.items()}, False


async def _plant(member: Member, store: str, count: int, mark: str, tell: Tell) -> list[Canary]:
    chance, words = random.SystemRandom(), _WORDS.split()
    codes = [secrets.token_hex(4) for _ in range(count)]
    phrases = [f"{' '.join(chance.sample(words, 5))} {code}" for code in codes]
    names = [f"{mark}-{code}.txt" for code in codes]
    ids = await gathered(
        partial(member.upload, name, f"Note: {phrase}.\n")
        for name, phrase in zip(names, phrases, strict=True)
    )
    for first in range(0, count, _BATCH):
        files = [
            {"file_id": ids[rank], "attributes": {RANK: rank}}
            for rank in range(first, min(first + _BATCH, count))
        ]
        batch = await member.call("POST", "vector_stores", store, "file_batches", body={"files": files})
        await _ingested(member, store, str(batch["id"]), tell)
    return [
        Canary(member.tenant, name, phrase, rank, store, file)
        for rank, (name, phrase, file) in enumerate(zip(names, phrases, ids, strict=True))
    ]


async def _ingested(member: Member, store: str, batch: str, tell: Tell) -> None:
    try:
        async with asyncio.timeout(_INGESTION_SECONDS):
            while True:
                now = await member.call("GET", "vector_stores", store, "file_batches", batch)
                counts = now["file_counts"]
                if not counts["in_progress"]:
                    break
                tell(
                    f"{counts['completed']:,} of {counts['total']:,} canaries of {member.tenant} are ingested"
                )
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        raise Refused(
            f"canaries of {member.tenant} were not ingested within {_INGESTION_SECONDS} s"
        ) from None
    if counts["completed"] != counts["total"]:
        raise Refused(f"{counts['failed']} canaries of {member.tenant} could not be ingested")


async def _remove(member: Member, mark: str, *, since: float) -> None:
    """Remove the stores and files of this run that the member made, whether or not it was told of them."""
    stores = [one["id"] async for one in member.newest("vector_stores", since=since) if one["name"] == mark]
    for store in stores:
        await _delete(member, "vector_stores", store)
    files = [
        one["id"] async for one in member.newest("files", since=since) if one["filename"].startswith(mark)
    ]
    await gathered(partial(_delete, member, "files", file) for file in files)


async def _delete(member: Member, *path: str) -> None:
    try:
        await member.call("DELETE", *path)
    except Refused as refusal:
        if refusal.status not in (403, 404):  # another tenant's store that is shown here, or gone already
            raise


async def gathered(wanted: Iterable[Callable[[], Awaitable[Result]]]) -> list[Result]:
    """Return what each of these gives, a few at the same time."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(call: Callable[[], Awaitable[Result]]) -> Result:
        async with room:
            return await call()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(call)) for call in wanted]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
