"""What OpenSearch and Elasticsearch say differently: the type of a vector's field, and the script of scores.

Both scripts score each row that the filter leaves by its product with the query, which is the cosine for
vectors of unit length. A script uses no index of vectors, so none is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from regate_orchestrator.ports import Vector
from regate_orchestrator.values import JsonObject


@dataclass(frozen=True, slots=True)
class Dialect:
    """One of the two."""

    called: str
    is_distribution: Callable[[JsonObject], bool]
    """Tells from the object `version` of its first page whether it is this one."""
    field: Callable[[int], JsonObject]
    script: Callable[[Vector], JsonObject]


def _knn_vector(dimensions: int) -> JsonObject:
    return {"type": "knn_vector", "dimension": dimensions}


def _knn_score(vector: Vector) -> JsonObject:
    parameters: JsonObject = {"field": "vector", "query_value": vector, "space_type": "innerproduct"}
    return {"lang": "knn", "source": "knn_score", "params": parameters}


def _dense_vector(dimensions: int) -> JsonObject:
    return {"type": "dense_vector", "dims": dimensions, "index": False}


def _dot_product(vector: Vector) -> JsonObject:
    # A score below zero is refused, and a product of unit vectors may be a little less than -1
    source = "Math.max(0.0, dotProduct(params.query, 'vector') + 1.0)"
    return {"lang": "painless", "source": source, "params": {"query": vector}}


OPENSEARCH: Final = Dialect(
    "OpenSearch", lambda version: version.get("distribution") == "opensearch", _knn_vector, _knn_score
)
ELASTICSEARCH: Final = Dialect(
    "Elasticsearch", lambda version: "distribution" not in version, _dense_vector, _dot_product
)
