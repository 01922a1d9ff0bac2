"""What the benchmarks ask the policy: inputs as the enforcer makes them, of chosen sizes. Not a
benchmark of its own.
"""

from __future__ import annotations

import time
from typing import Final

from regate_orchestrator.authz.batches import BATCH_ACTION, Batch
from regate_orchestrator.authz.records import policy_input
from regate_orchestrator.principal import Principal
from regate_orchestrator.values import Json, JsonObject

LISTS: Final = ("teams", "roles", "projects", "namespaces")
STORE: Final[JsonObject] = {
    "id": "vs_1",
    "name": "s",
    "tenant": "acme",
    "owner": "bob",
    "shared": False,
    "visibility": "tenant",
    "level": 0,
    "labels": [],
    **{name: [] for name in LISTS},
}


def principal(groups: int) -> Principal:
    """Return a principal with this many teams."""
    return Principal("alice", "acme", teams=tuple(f"team-{number}" for number in range(groups)), clearance=2)


def question(action: str, groups: int, **resource: Json) -> JsonObject:
    """Return the input of one question by a principal with this many teams."""
    return policy_input(
        principal(groups).as_input(),
        action,
        {"store": STORE, **resource},
        request_id="req_bench",
        now=int(time.time()),
    )


def stamp(number: int, *, labels: int = 1, distinct: bool = False) -> JsonObject:
    """Return a chunk's stamp: one of seven, unless all shall be distinct."""
    lists: dict[str, Json] = {name: [] for name in LISTS} | {
        "teams": [f"team-{number % 7}"],
        "labels": [f"label-{one}" for one in range(labels)],
    }
    scalars: dict[str, Json] = {
        "tenant": "acme",
        "visibility": "attributes",
        "level": 1,
        "legal_hold": False,
        "embargo_until": 0,
    }
    return scalars | lists | {"owner": f"user-{number}" if distinct else "bob"}


def batch(size: int, *, groups: int = 5, labels: int = 1, distinct: bool = False) -> JsonObject:
    """Return the input of a batch of this many chunks."""
    chunks = [("vs_1", stamp(number, labels=labels, distinct=distinct)) for number in range(size)]
    resource = Batch(stores={"vs_1": STORE}, chunks=chunks).as_input()
    return policy_input(
        principal(groups).as_input(), BATCH_ACTION, resource, request_id="req_bench", now=int(time.time())
    )
