"""The collections of a Milvus server: what fields and indexes they have. `engine.py`, the counterpart, fills
and asks them.

The index of vectors is `FLAT`: Milvus then compares every vector that the filter leaves, in sealed segments
and in growing ones. Its field of text takes 65,535 bytes, so a document lies in a list of pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from regate_orchestrator.errors import VectorStoreUnavailable

if TYPE_CHECKING:
    from pymilvus import MilvusClient

MOST_MARKS: Final = 4_096
PIECE_BYTES: Final = 60_000
_MARK_BYTES: Final = 256
_TEXT_BYTES: Final = 65_535
_MOST_PIECES: Final = 256
_KEY_BYTES: Final = 64
_SMALLEST: Final = 2
"""The shortest vector that Milvus takes; a store's note needs one, since every entity has a vector."""
_LITE: Final = "milvus_lite"

STRONG: Final = "Strong"
METRIC: Final = "IP"
NO_VECTOR: Final = (1.0,) + (0.0,) * (_SMALLEST - 1)


def make_rows(client: MilvusClient, name: str, dimensions: int, *, within_s: float) -> None:
    """Make a collection of rows. The tenant is its partition key."""
    schema, kinds = _schema(client, dimensions)
    schema.add_field("store", kinds.VARCHAR, max_length=_KEY_BYTES)
    schema.add_field("tenant", kinds.VARCHAR, max_length=_KEY_BYTES, is_partition_key=True)
    for field, most, length in (
        ("marks", MOST_MARKS, _MARK_BYTES),
        ("document", _MOST_PIECES, _TEXT_BYTES),
    ):
        schema.add_field(field, kinds.ARRAY, element_type=kinds.VARCHAR, max_capacity=most, max_length=length)
    schema.add_field("name", kinds.VARCHAR, max_length=_TEXT_BYTES)
    # Milvus Lite filters lists without an index, and takes none.
    is_lite = client.get_server_version(timeout=within_s).startswith(_LITE)
    _make(client, name, schema, ("store",) if is_lite else ("store", "marks"), within_s=within_s)


def make_registry(client: MilvusClient, name: str, *, within_s: float) -> None:
    """Make the collection that notes which stores there are."""
    schema, kinds = _schema(client, _SMALLEST)
    schema.add_field("dimensions", kinds.INT64)
    _make(client, name, schema, (), within_s=within_s)


def pieces_of(document: str) -> list[str]:
    """Return the document, which is ASCII, in pieces that fit into a field."""
    return list(_pieces(document)) or [""]


def _pieces(document: str) -> Iterator[str]:
    for start in range(0, len(document), PIECE_BYTES):
        yield document[start : start + PIECE_BYTES]


def _schema(client: MilvusClient, dimensions: int) -> tuple[Any, Any]:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=_KEY_BYTES)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimensions)
    return schema, DataType


def _make(
    client: MilvusClient, name: str, schema: Any, inverted: tuple[str, ...], *, within_s: float
) -> None:
    """Make the collection, its indexes where they are not there yet, and have it loaded."""
    if not client.has_collection(name, timeout=within_s):
        _unless_done(
            lambda: client.create_collection(name, schema=schema, consistency_level=STRONG, timeout=within_s),
            lambda: client.has_collection(name, timeout=within_s),
        )
    _require_ours(client, name, schema, within_s=within_s)
    for field in ("vector", *inverted):
        _index(client, name, field, within_s=within_s)
    client.load_collection(name, timeout=within_s)


def _index(client: MilvusClient, name: str, field: str, *, within_s: float) -> None:
    wanted = client.prepare_index_params()
    if field == "vector":
        wanted.add_index(field, index_type="FLAT", metric_type=METRIC)
    else:
        wanted.add_index(field, index_type="INVERTED")
    if not client.list_indexes(name, field_name=field, timeout=within_s):
        _unless_done(
            lambda: client.create_index(name, wanted, timeout=within_s, sync=False),
            lambda: bool(client.list_indexes(name, field_name=field, timeout=within_s)),
        )


def _unless_done(make: Callable[[], object], is_done: Callable[[], bool]) -> None:
    """Make something; let it fail where another gateway was faster."""
    try:
        make()
    except Exception:
        if not is_done():
            raise


def _require_ours(client: MilvusClient, name: str, schema: Any, *, within_s: float) -> None:
    """Raise `VectorStoreUnavailable` for a collection that has other fields."""
    found = client.describe_collection(name, timeout=within_s)["fields"]
    fields = {one["name"]: int(one["params"].get("dim", 0)) for one in found}
    if fields != {one.name: int(one.params.get("dim", 0)) for one in schema.fields}:
        raise VectorStoreUnavailable(f"Milvus: the collection {name} is not one that Regate made")
