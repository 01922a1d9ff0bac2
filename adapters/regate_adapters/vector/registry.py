"""The kinds of vector engine there are. Adding one is a folder beside this file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import InitErrorDetails

from regate_adapters.vector.chroma.kind import Chroma, ChromaOnServer
from regate_adapters.vector.faiss.kind import Faiss
from regate_adapters.vector.kind import EmbeddedSettings, EngineKind, EngineSettings
from regate_adapters.vector.lancedb.kind import LanceDb
from regate_adapters.vector.local.kind import Local
from regate_adapters.vector.memory.kind import Memory
from regate_adapters.vector.milvus.kind import Milvus
from regate_adapters.vector.opensearch.kind import Elasticsearch, OpenSearch
from regate_adapters.vector.oracle.kind import Oracle
from regate_adapters.vector.pgvector.kind import PgVector
from regate_adapters.vector.qdrant.kind import Qdrant
from regate_adapters.vector.sqlite_vec.kind import SqliteVec
from regate_adapters.vector.weaviate.kind import Weaviate

_ALL: Final[tuple[EngineKind[Any], ...]] = (
    Local(),
    Chroma(),
    ChromaOnServer(),
    PgVector(),
    LanceDb(),
    Faiss(),
    SqliteVec(),
    Oracle(),
    OpenSearch(),
    Elasticsearch(),
    Weaviate(),
    Qdrant(),
    Milvus(),
    Memory(),
)

KINDS: Final[Mapping[str, EngineKind[Any]]] = {kind.name: kind for kind in _ALL}
DEFAULT: Final = KINDS["local"]


def kind_of(given: object) -> EngineKind[Any] | None:
    """Return the kind that an engine's settings name, as they were given; None for one that is not there."""
    named = given.get("kind", DEFAULT.name) if isinstance(given, Mapping) else None
    return KINDS.get(named) if isinstance(named, str) else None


def is_embedded(given: object) -> bool:
    """Return whether settings, as they were given, are of an engine that has a directory."""
    kind = kind_of(given)
    return kind is not None and issubclass(kind.settings, EmbeddedSettings)


def read_settings(given: object) -> EngineSettings:
    """Return an engine's settings, of the class that belongs to their `kind`. Raises `ValueError`."""
    if isinstance(given, EngineSettings):
        return given
    if not isinstance(given, Mapping):
        return _validated(DEFAULT, given)
    kind = kind_of(given)
    if kind is None:
        raise _no_such_kind(given["kind"])
    own = kind.settings.model_fields
    others = {name for other in _ALL for name in other.settings.model_fields if name not in own}
    said = {name: value for name, value in given.items() if name not in others or value is not None}
    if all(name in own or name in others for name in said):
        for name, field in own.items():
            if field.is_required() and said.get(name) is None:
                raise ValueError(f"{name} must be set with kind {kind.name}")
        for name in said:
            if name in others:
                raise ValueError(f"{name} does not belong to kind {kind.name}")
    return _validated(kind, said)


def _validated(kind: EngineKind[Any], given: object) -> EngineSettings:
    found: EngineSettings = kind.settings.model_validate(given)
    return found


def _no_such_kind(given: object) -> ValidationError:
    names = [repr(name) for name in KINDS]
    expected = f"{', '.join(names[:-1])} or {names[-1]}"
    fault = InitErrorDetails(type="literal_error", loc=("kind",), input=given, ctx={"expected": expected})
    return ValidationError.from_exception_data("EngineSettings", [fault])
