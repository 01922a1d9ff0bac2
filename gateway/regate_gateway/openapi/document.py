"""Puts the OpenAPI 3.1 document together. What is alike for every operation is said here once: errors,
security, parameters of the path.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

import orjson
import yaml

from regate_gateway.openapi.models import body_schemas, query_parameters

_ERRORS: Final[Mapping[str, str]] = {
    "400": "The request; `param` names the field and the message what to change.",
    "401": "No token, or one that does not verify.",
    "403": "The caller may see the thing but not do this with it.",
    "404": "Absent and invisible alike.",
    "409": "A request with this Idempotency-Key is still running.",
    "413": "A size limit of the configuration.",
    "422": "The Idempotency-Key was used for another request.",
    "429": "A quota is used up, or the backend takes no more; see `Retry-After`.",
    "502": "The backend failed.",
    "503": "Something that is needed is unavailable; nothing was done.",
    "504": "The backend did not answer in time.",
}
_Queries = Mapping[str, list[dict[str, Any]]]
_STREAM: Final = {
    "schema": {"type": "string", "description": "Server-sent events, ending with `data: [DONE]`."}
}


@functools.cache
def document() -> bytes:
    """Return the document as JSON, made once."""
    return orjson.dumps(build())


def build() -> dict[str, Any]:
    """Return the document."""
    components, queries = _load("components.yaml"), query_parameters()
    schemes = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Regate",
            "version": "1",
            "description": (
                "The OpenAI API with every access decided by policy. Keys of attributes and metadata with "
                "`regate.` request sharing."
            ),
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": {path: _path(path, operations, queries) for path, operations in _load("paths.yaml").items()},
        "components": {
            "securitySchemes": schemes,
            "schemas": {**components["schemas"], **_load("proxied.yaml"), **body_schemas()},
        },
    }


def _path(path: str, operations: Mapping[str, Any], queries: _Queries) -> dict[str, Any]:
    return {method: _operation(method, path, operation, queries) for method, operation in operations.items()}


def _operation(method: str, path: str, operation: Mapping[str, Any], queries: _Queries) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1, "maxLength": 256},
        }
        for name in re.findall(r"{(\w+)}", path)
    ]
    parameters += queries[operation["query"]] if "query" in operation else []
    if operation.get("idempotent"):
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
            }
        )
    described: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{method}{path}").strip("_"),
        "summary": operation["summary"],
        "parameters": parameters,
        "responses": {
            "200": _answer(operation),
            **{status: _error(text) for status, text in _ERRORS.items()},
        },
    }
    for kind, media in (("body", "application/json"), ("form", "multipart/form-data")):
        if kind in operation:
            described["requestBody"] = {"required": True, "content": {media: {"schema": operation[kind]}}}
    return described


def _answer(operation: Mapping[str, Any]) -> dict[str, Any]:
    if operation.get("bytes"):
        return {
            "description": "The bytes.",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    content: dict[str, Any] = {"application/json": {"schema": operation["answer"]}}
    if operation.get("streams"):
        content["text/event-stream"] = _STREAM
    return {"description": "Done.", "content": content}


def _error(text: str) -> dict[str, Any]:
    return {
        "description": text,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }


def _load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(files(__package__).joinpath(name).read_text(encoding="utf-8"))
    return loaded
