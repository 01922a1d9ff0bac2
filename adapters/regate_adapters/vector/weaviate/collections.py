"""The collections that the engine makes, and what one that is there must be like for filters to be exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from regate_adapters.vector.weaviate.filter import MARKS
from regate_orchestrator.values import Json, JsonObject

_PLAIN: Final[JsonObject] = {"indexFilterable": False, "indexSearchable": False}


def _whole_text(name: str, kind: str) -> JsonObject:
    """Return a property whose values are compared whole, with each letter as it is."""
    return {
        "name": name,
        "dataType": [kind],
        "tokenization": "field",
        "indexFilterable": True,
        "indexSearchable": False,
    }


_PROPERTIES: Final[tuple[JsonObject, ...]] = (
    _whole_text(MARKS, "text[]"),
    _whole_text("tenant", "text"),
    {"name": "place", "dataType": ["int"], "indexFilterable": False, "indexRangeFilters": True},
    {"name": "key", "dataType": ["text"], **_PLAIN},
    {"name": "document", "dataType": ["text"], **_PLAIN},
)
_COMMON: Final[dict[str, Json]] = {
    "vectorizer": "none",
    "vectorIndexType": "flat",
    "invertedIndexConfig": {"stopwords": {"preset": "none"}},
}


def of_rows(name: str) -> JsonObject:
    """Return the collection of rows: each store a tenant, each vector compared one by one and as it is."""
    return {
        **_COMMON,
        "class": name,
        "vectorIndexConfig": {"distance": "dot", "skipDefaultQuantization": True},
        "multiTenancyConfig": {"enabled": True, "autoTenantCreation": False, "autoTenantActivation": True},
        "properties": list(_PROPERTIES),
    }


def of_stores(name: str) -> JsonObject:
    """Return the collection that knows which stores were made."""
    properties: list[Json] = [
        {"name": "store", "dataType": ["text"], **_PLAIN},
        {"name": "dimensions", "dataType": ["int"], "indexFilterable": False},
    ]
    return {**_COMMON, "class": name, "properties": properties}


def is_as_made(found: Any, wanted: JsonObject) -> bool:
    """Return whether a collection that is there has all that this one would be made with, and no quantization
    that somebody switched on.
    """
    config = found["vectorIndexConfig"]
    if any(isinstance(part, Mapping) and part.get("enabled") for part in config.values()):
        return False
    made = {**wanted, "vectorIndexConfig": {"distance": config["distance"]}}
    if "vectorIndexConfig" in wanted:
        made["vectorIndexConfig"] = {"distance": "dot"}
    return _holds(found, made)


def _holds(found: Any, wanted: Json) -> bool:
    """Return whether a value has all that is wanted, and may have more; properties in any order."""
    match wanted:
        case Mapping():
            return isinstance(found, Mapping) and all(
                name in found and _holds(found[name], value) for name, value in wanted.items()
            )
        case [Mapping(), *_]:
            named = {one["name"]: one for one in found}
            return all(isinstance(one, Mapping) and _holds(named.get(one["name"]), one) for one in wanted)
        case _:
            return bool(found == wanted)
