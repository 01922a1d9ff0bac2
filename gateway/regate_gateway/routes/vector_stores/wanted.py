"""Files that requests want in a store, as the core takes them: each with its attributes and how it is
split.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from regate_gateway.routes.vector_stores.models import (
    AttachRequest,
    ChunkingStrategy,
    FileBatchRequest,
    VectorStoreRequest,
)
from regate_orchestrator.documents.attachments import Wanted
from regate_orchestrator.documents.attributes import split_attributes
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.filters.expression import Scalar
from regate_orchestrator.values import FileId


def wanted_file(asked: AttachRequest, *, path: str = "") -> Wanted:
    """Return the one file that is wanted in a store. Raises `InvalidRequest` for its attributes."""
    within = f"{path}." if path else ""
    return _wanted(
        asked.file_id,
        asked.attributes,
        asked.chunking_strategy,
        attributes_param=f"{within}attributes",
        param=f"{within}file_id",
    )


def wanted_files(asked: FileBatchRequest) -> list[Wanted]:
    """Return the files of a batch. A file that is named twice in the same way is wanted once."""
    if asked.files is not None:
        return _distinct([wanted_file(one, path=f"files[{index}]") for index, one in enumerate(asked.files)])
    return _distinct(
        [
            _wanted(file, asked.attributes, asked.chunking_strategy, param=f"file_ids[{index}]")
            for index, file in enumerate(asked.file_ids or ())
        ]
    )


def first_files(asked: VectorStoreRequest) -> list[Wanted]:
    """Return the files that a new store is made with, none when there are none."""
    return _distinct(
        [_wanted(file, {}, asked.chunking_strategy, param="file_ids") for file in asked.file_ids]
    )


def _wanted(
    file: str,
    attributes: Mapping[str, Any],
    strategy: ChunkingStrategy | None,
    *,
    param: str,
    attributes_param: str = "attributes",
) -> Wanted:
    split = split_attributes(attributes, param=attributes_param)
    chunking = None if strategy is None else strategy.chunking
    sections = None if strategy is None else strategy.sections
    return Wanted(FileId(file), cast("dict[str, Scalar]", attributes), split, chunking, param, sections)


def _distinct(found: list[Wanted]) -> list[Wanted]:
    wanted: dict[FileId, Wanted] = {}
    for one in found:
        known = wanted.setdefault(one.file_id, one)
        if (known.sent, known.chunking, known.sections) != (one.sent, one.chunking, one.sections):
            raise InvalidRequest(
                f"'{one.param}' names a file that is named before, with other attributes.",
                param=one.param,
                code="invalid_value",
            )
    return list(wanted.values())
