"""A policy directory or a built bundle, running in an OPA of its own: for asking it something without
touching the gateway's.

Not the gateway's own OPA (`composition/wiring.py`), and not what is asked (`replaying.py`,
`workbench/explain/explanation.py`).
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from regate_adapters.opa.engine import OpaEngine
from regate_adapters.opa.install import require_opa
from regate_adapters.opa.policies.listing import SIGNATURES
from regate_adapters.opa.policies.signed import read_bundle
from regate_adapters.opa.server.process import ManagedOpa
from regate_gateway.workbench.directory import shipped_policies
from regate_orchestrator.authz.points import ROWS
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.filters.schema import RowSchema, load_schema

_DEADLINE_SECONDS: Final = 10.0
_GIVEN_AT_BUILD: Final = (("regate", "meta"), ("system", "gateway_token"))
"""What a bundle that regate built carries already, and every build fills in anew."""


@dataclass(frozen=True, slots=True)
class RunningPolicies:
    """Policies that answer, the directory that they came from, and the OPA program."""

    engine: OpaEngine
    directory: Path
    opa: Path
    schemas: Mapping[str, RowSchema]
    revision: str


@asynccontextmanager
async def running_policies(place: Path, *, opa: Path | None = None) -> AsyncIterator[RunningPolicies]:
    """Yield the policies of a directory or of a bundle (`.tar.gz`), running. Raises
    `ConfigurationError` when they do not run.
    """
    program = opa if opa is not None else await asyncio.to_thread(require_opa)
    with tempfile.TemporaryDirectory(prefix="regate-bundle-") as folder:
        directory = await asyncio.to_thread(_unpacked, place, Path(folder))
        schemas = row_schemas(directory)
        async with (
            ManagedOpa(directory, opa=program) as managed,
            OpaEngine(managed.address, schemas=schemas, deadline_s=_DEADLINE_SECONDS) as engine,
        ):
            yield RunningPolicies(engine, directory, program, schemas, managed.revision)


def row_schemas(directory: Path) -> dict[str, RowSchema]:
    """Return the row schemas of the policies; those that ship with Regate where the policies, being a
    bundle, carry none.
    """
    found: dict[str, RowSchema] = {}
    for kind in ROWS:
        own = directory / "schemas" / f"{kind}.json"
        found[kind] = load_schema(own if own.is_file() else shipped_policies() / "schemas" / f"{kind}.json")
    return found


def _unpacked(place: Path, folder: Path) -> Path:
    if place.is_dir():
        return place
    unpack_bundle(place, folder)
    return folder


def unpack_bundle(bundle: Path, target: Path) -> None:
    """Write the policies, schemas and data of a bundle below the directory. Raises
    `ConfigurationError` for what is no bundle.
    """
    for name, content in read_bundle(bundle).items():
        if name != SIGNATURES:
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_own_data(content, bundle) if path.name == "data.json" else content)


def _own_data(content: bytes, bundle: Path) -> bytes:
    """Return the data of a bundle without what is filled in when it is built again."""
    try:
        document: Any = json.loads(content)
    except ValueError as error:
        raise ConfigurationError(f"{bundle} holds data that are not JSON: {error}") from error
    for package, name in _GIVEN_AT_BUILD:
        if isinstance(document, dict) and isinstance(document.get(package), dict):
            document[package].pop(name, None)
            if not document[package]:
                del document[package]
    return json.dumps(document).encode()
