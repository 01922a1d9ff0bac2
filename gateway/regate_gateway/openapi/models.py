"""The part of the document that comes from the models of requests (`http/models.py`): schemas of bodies, and
parameters of queries. Answers are described in `components.yaml`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from regate_gateway.http.models import RequestModel
from regate_gateway.routes.conversation_models import ConversationRequest, ConversationUpdate, ItemsRequest
from regate_gateway.routes.explain import ExplainQuery
from regate_gateway.routes.files.models import CompleteRequest, FilesQuery, UploadRequest
from regate_gateway.routes.models import ListQuery
from regate_gateway.routes.prompts.models import PromptRequest, PromptUpdate, PromptVersionRequest
from regate_gateway.routes.responses.include import IncludeQuery, ItemsQuery, ReadQuery
from regate_gateway.routes.responses.models import CompactRequest, CreateResponse, MeasureRequest
from regate_gateway.routes.vector_stores.models import (
    AttachmentsQuery,
    AttachRequest,
    AttributesUpdate,
    ContentQuery,
    FileBatchRequest,
    SearchRequest,
    VectorStoreRequest,
    VectorStoreUpdate,
)

_BODIES: Final[Sequence[type[RequestModel]]] = (
    AttachRequest,
    AttributesUpdate,
    CompactRequest,
    CompleteRequest,
    ConversationRequest,
    ConversationUpdate,
    CreateResponse,
    FileBatchRequest,
    ItemsRequest,
    MeasureRequest,
    PromptRequest,
    PromptUpdate,
    PromptVersionRequest,
    SearchRequest,
    UploadRequest,
    VectorStoreRequest,
    VectorStoreUpdate,
)
_QUERIES: Final[Sequence[type[RequestModel]]] = (
    AttachmentsQuery,
    ContentQuery,
    ExplainQuery,
    FilesQuery,
    IncludeQuery,
    ItemsQuery,
    ListQuery,
    ReadQuery,
)


class _Schemas(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 — pydantic's signature
        return False  # a title says the name again


def body_schemas() -> dict[str, Any]:
    """Return the schemas of bodies, and of what is in them, by the names of their models."""
    return _schemas(_BODIES)


def query_parameters() -> dict[str, list[dict[str, Any]]]:
    """Return the parameters of queries by the names of their models."""
    return {
        name: [_parameter(parameter, said) for parameter, said in schema["properties"].items()]
        for name, schema in _schemas(_QUERIES).items()
    }


def _schemas(models: Sequence[type[RequestModel]]) -> dict[str, Any]:
    _, found = models_json_schema(
        [(model, "validation") for model in models],
        ref_template="#/components/schemas/{model}",
        schema_generator=_Schemas,
    )
    schemas: dict[str, Any] = found.get("$defs", {})
    for schema in schemas.values():
        schema.pop("title", None)
    return schemas


def _parameter(name: str, said: dict[str, Any]) -> dict[str, Any]:
    """Return a parameter that may be left out. A query has no null."""
    schema = next((one for one in said.get("anyOf", ()) if one != {"type": "null"}), said)
    kept = {key: value for key, value in schema.items() if key != "description" and value not in (None, [])}
    parameter: dict[str, Any] = {"name": name, "in": "query", "schema": kept}
    if (description := schema.get("description", said.get("description"))) is not None:
        parameter["description"] = description
    return parameter
