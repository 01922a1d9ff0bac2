"""What decides: the policy engine with all that stands before it, the audit log, the enforcer over both."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from regate_adapters.audit.export.exporter import Exporter
from regate_adapters.audit.log import SegmentedAuditLog
from regate_adapters.opa.batching import BatchingEngine
from regate_adapters.opa.caching import CachingEngine
from regate_adapters.opa.engine import OpaEngine
from regate_gateway.composition.auditing import exporters_of, open_audit
from regate_gateway.composition.opening import Worker, opa_binary, open_policy, row_schemas_in, starting
from regate_gateway.composition.seat import Seat
from regate_gateway.config.settings import Settings
from regate_gateway.services import Explaining
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.authz.points import asked_rules
from regate_orchestrator.authz.remembered import remembered_rules
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.ports import PolicyEngine, StateStore

_log = logging.getLogger("regate.gateway")

_REMEMBERED: Final = 16_384


@dataclass(frozen=True, slots=True)
class Decisions:
    """The enforcer, and what it stands on."""

    enforcer: Enforcer
    engine: CachingEngine
    opa: OpaEngine
    audit: SegmentedAuditLog
    exporters: tuple[Exporter, ...]
    schemas: Mapping[str, RowSchema]
    policies: Path
    problem: Callable[[], str | None]
    """Returns why the newest policy is not in force; None when it is."""
    on_change: Callable[[Callable[[], None]], None]
    """Takes what is to be called whenever OPA takes other policies, or is gone."""
    workers: tuple[Worker, ...]

    def explaining(self, settings: Settings, state: StateStore) -> Explaining:
        """Return what explains decisions: with rules and lines where OPA is ours, as a remote OPA's
        policies are not at hand.
        """
        from regate_gateway.workbench.explain.recorded import AuditExplainer
        from regate_gateway.workbench.explain.trace import Tracer

        tracer = None if settings.opa.mode == "remote" else Tracer(opa_binary(settings), self.policies)
        return AuditExplainer(settings.audit.path, state, self.schemas, self.opa, tracer)


async def open_decisions(
    stack: AsyncExitStack, settings: Settings, metrics: Metrics, seat: Seat | None = None
) -> Decisions:
    """Return what decides, opened on the stack. Raises `ConfigurationError`."""
    starting("reading and checking the policies")
    policy = await open_policy(stack, settings, seat)
    schemas = row_schemas_in(policy.directory)
    opa = await stack.enter_async_context(
        OpaEngine(
            policy.address,
            schemas=schemas,
            deadline_s=settings.opa.timeout_ms / 1000,
            rules=asked_rules(),
            gate=policy.gate,
        )
    )
    asked, shadowing = await _shadowed(stack, settings, BatchingEngine(opa))
    engine = CachingEngine(
        asked, seconds=settings.opa.cache_s, entries=_REMEMBERED, answers_of=remembered_rules()
    )
    worker = None if seat is None else seat.number
    audit = await stack.enter_async_context(open_audit(settings, worker))
    exporters = exporters_of(settings, audit, worker)
    return Decisions(
        enforcer=Enforcer(engine, audit, schemas, memory=engine, metrics=metrics),
        engine=engine,
        opa=opa,
        audit=audit,
        exporters=exporters,
        schemas=schemas,
        policies=policy.directory,
        problem=lambda: policy.problem() or opa.problem,
        on_change=policy.tell,
        workers=(*policy.workers, *shadowing, *(one.work for one in exporters)),
    )


async def _shadowed(
    stack: AsyncExitStack, settings: Settings, live: PolicyEngine
) -> tuple[PolicyEngine, tuple[Worker, ...]]:
    """Return the engine to ask, with the candidate in its shadow if there is one, and what keeps the
    candidate running.

    A candidate that does not run is logged and left out: it must never keep the gateway from serving.
    """
    directory = settings.opa.shadow
    if directory is None:
        return live, ()
    from regate_adapters.opa.server.process import ManagedOpa
    from regate_adapters.opa.shadowing import ShadowingEngine, unharming
    from regate_gateway.workbench.replay.engine import row_schemas

    try:
        schemas = row_schemas(directory)  # its own: it may know other fields
        managed = await stack.enter_async_context(ManagedOpa(directory, opa=opa_binary(settings)))
    except (ConfigurationError, OSError) as error:
        _log.error("shadow_not_started", extra={"cause": str(error)})
        return live, ()
    candidate = await stack.enter_async_context(OpaEngine(managed.address, schemas=schemas))
    shadowing = ShadowingEngine(
        live, BatchingEngine(candidate), report=settings.data_dir / "shadow" / "flips.jsonl"
    )
    return shadowing, (unharming(managed.watch), unharming(shadowing.work))
