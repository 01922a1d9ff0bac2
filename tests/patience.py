"""How long what must succeed may take on the slowest machine. No test's outcome may hang on how fast the
machine is.

The gateway's own limits suit a machine that has time for it. Tests run on busy ones, so the gateways in them
wait as long as this instead; a test that is about a limit says which one it means.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

PATIENT_SECONDS: Final = 120
_LOOK_SECONDS: Final = 0.02

_CONSTANTS: Final = {
    "regate_adapters.opa.policies.vetting": ("_DEADLINE_SECONDS",),
    "regate_adapters.opa.acceptance.reading": ("_DEADLINE_SECONDS",),
    "regate_adapters.opa.policies.remote": ("_DEADLINE_SECONDS",),
    "regate_adapters.opa.server.process": ("_START_SECONDS",),
    "regate_adapters.opa.policies.signed": ("_DEADLINE_SECONDS",),
    "regate_adapters.backend.upstream_client": ("_CONNECT_SECONDS", "_LISTING_SECONDS", "_CONTACT_SECONDS"),
    "regate_adapters.backend.catalogue": ("_RENEWAL_SECONDS",),
    "regate_adapters.backend.upstreams": ("_CHECK_SECONDS", "_OTHERS_SECONDS"),
    "regate_adapters.audit.copying": ("_DEADLINE_SECONDS",),
    "regate_adapters.audit.export.otlp": ("_DEADLINE_SECONDS",),
    "regate_adapters.audit.export.postgres": ("_DEADLINE_SECONDS",),
    "regate_adapters.json_endpoint": ("_CONNECT_SECONDS",),
    "regate_adapters.vector.chroma.store": ("_READ_SECONDS", "_CHECK_SECONDS"),
    "regate_adapters.vector.pgvector.store": ("_CHECK_SECONDS",),
    "regate_adapters.vector.milvus.engine": ("_CHECK_SECONDS",),
    "regate_adapters.vector.qdrant.engine": ("_CHECK_SECONDS",),
    "regate_gateway.routes.health": ("_DEADLINE_SECONDS", "_OTHERS_SECONDS"),
    "regate_gateway.workbench.explain.trace": ("_DEADLINE_SECONDS",),
}


def wait_patiently() -> None:
    """Have every gateway in this process wait so long, from now on."""
    from regate_adapters.audit.log import SegmentedAuditLog
    from regate_adapters.state.store import SqlStateStore
    from regate_adapters.vector.pgvector.store import PgVectorStore

    for module, names in _CONSTANTS.items():
        found = import_module(module)
        for name in names:
            assert hasattr(found, name), f"{module} has no {name} any more"
            setattr(found, name, PATIENT_SECONDS)
    for opens in (SqlStateStore.open, SegmentedAuditLog.open, PgVectorStore.__init__):
        _defaults(opens)["deadline_s"] = PATIENT_SECONDS


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    found: dict[str, Any] | None = inspect.unwrap(function).__kwdefaults__
    assert found is not None
    assert "deadline_s" in found
    return found


async def until(holds: Callable[[], object]) -> None:
    """Return as soon as something that others are at has come about; `holds` may be asynchronous."""
    async with asyncio.timeout(PATIENT_SECONDS):
        while True:
            found = holds()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(_LOOK_SECONDS)
