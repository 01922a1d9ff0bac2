"""Reads what `GET /models` answers, in the shapes that backends give it: a list of models, below
`data` or `models` or by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import orjson

from regate_adapters.backend.catalogue import ModelEntry
from regate_adapters.backend.failures import misunderstood

_MAX_MODELS: Final = 10_000
_ID: Final = re.compile(r"[!-~]{1,256}")
_LISTS: Final = ("data", "models")
_IDS: Final = ("id", "model", "name")


def listed_models(upstream: str, body: bytes) -> tuple[ModelEntry, ...]:
    """Return the models of a listing; entries without a plain id are left out. Raises `UpstreamError`
    for what is no listing.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise misunderstood(upstream, "its list of models is not JSON") from error
    entries = (_entry(upstream, model) for model in _list_in(upstream, document)[:_MAX_MODELS])
    return tuple(entry for entry in entries if entry is not None)


def _list_in(upstream: str, document: object) -> list[object]:
    found = (
        [document[name] for name in _LISTS if name in document] if isinstance(document, dict) else [document]
    )
    listed: object = next((value for value in found if value is not None), [])
    if isinstance(listed, list) and found:
        return listed  # Ollama says `null` when it has none
    raise misunderstood(upstream, "its list of models has no `data`")


def _entry(upstream: str, model: object) -> ModelEntry | None:
    told: Mapping[str, object] = model if isinstance(model, dict) else {"id": model}
    identifier = next((told[name] for name in _IDS if told.get(name)), None)
    if not isinstance(identifier, str) or not _ID.fullmatch(identifier):
        return None
    created, owner = told.get("created"), told.get("owned_by")
    return ModelEntry(
        id=identifier,
        created=created if isinstance(created, int) and not isinstance(created, bool) else 0,
        owned_by=owner if isinstance(owner, str) and _ID.fullmatch(owner) else upstream,
    )
