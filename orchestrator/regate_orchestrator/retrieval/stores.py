"""Vector stores that a principal may search: found, decided, and not expired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from regate_orchestrator.errors import InvalidRequest, NotFound
from regate_orchestrator.rows import StoreRow
from regate_orchestrator.values import JsonObject, StoreId


@dataclass(frozen=True, slots=True)
class OpenStore:
    """A vector store that this principal may search in this request. Made by `Retrieval.open` alone."""

    row: StoreRow
    view: JsonObject
    has_expired: bool = False


def opened(
    ids: Sequence[StoreId], present: Mapping[StoreId, OpenStore], admitted: frozenset[str], *, param: str
) -> tuple[OpenStore, ...]:
    """Return the stores in order; raises `NotFound` for the first that is absent or was not admitted, with
    one wording for both.

    Raises `InvalidRequest` for one that has expired, which whoever may search it may know.
    """
    for store in ids:
        if store not in present or store not in admitted:
            raise NotFound.of("vector store", store, param=param)
    for store in ids:
        if present[store].has_expired:
            raise expired(store, param=param)
    return tuple(present[store] for store in dict.fromkeys(ids))


def expired(store: StoreId, *, param: str | None = None) -> InvalidRequest:
    """Return the refusal of everything but reading and deleting a store that has expired."""
    message = (
        f"The vector store {store} has expired, so it can neither be searched nor changed. Create a new "
        "one with its files."
    )
    return InvalidRequest(message, param=param, code="vector_store_expired")
