"""The questions that are asked: a line of JSON each, with the names of the files that answer it."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from regate_orchestrator.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Question:
    """What a tenant's member asks of a store, and the names of the files that answer."""

    tenant: str
    query: str
    files: frozenset[str]
    store: str


def read_questions(path: Path, tenants: Collection[str], store_of: dict[str, str]) -> Sequence[Question]:
    """Return the questions in the file, each asked of its tenant's store. Raises `ConfigurationError`."""
    try:
        lines = path.read_bytes().removeprefix(BOM_UTF8).splitlines()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(_question(line, tenants, store_of))
        except ValueError as error:
            raise ConfigurationError(f"{path}:{number}: {error}") from None
    if not found:
        raise ConfigurationError(f"{path} holds no question")
    return found


def _question(line: bytes, tenants: Collection[str], store_of: dict[str, str]) -> Question:
    said = orjson.loads(line)
    if not isinstance(said, dict) or not isinstance(said.get("query"), str) or not said["query"].strip():
        raise ValueError('a question is {"tenant": …, "query": …, "files": [names]}')
    tenant = said.get("tenant")
    if not isinstance(tenant, str) or tenant not in tenants:
        raise ValueError(f"there is no token for the tenant {tenant!r}")
    if tenant not in store_of:
        raise ValueError(f"it is not said which store the questions of {tenant} are asked of (store)")
    facts = said.get("facts") or []
    if not isinstance(facts, list) or not all(isinstance(fact, dict) for fact in facts):
        raise ValueError("facts is a list of objects, each with a file")
    files = said.get("files") or [fact.get("file") for fact in facts]
    if not isinstance(files, list) or not files or not all(isinstance(name, str) for name in files):
        raise ValueError("files (or facts, each with a file) must name the files that answer")
    return Question(tenant, said["query"], frozenset(files), store_of[tenant])
