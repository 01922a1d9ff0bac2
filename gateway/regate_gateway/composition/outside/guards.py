"""The guards that the settings name, with their keys, over the enforcer that decides what follows."""

from __future__ import annotations

from contextlib import AsyncExitStack

from regate_gateway.composition.decisions import Decisions
from regate_gateway.composition.opening import sealing_secret
from regate_gateway.config.guard_settings import GuardEntry
from regate_gateway.config.secret import header_secret_from_environment
from regate_gateway.config.settings import Settings
from regate_orchestrator.guards.checking import Guard, Guards, Streaming
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.ports import GuardProvider


async def open_guards(
    stack: AsyncExitStack, settings: Settings, decisions: Decisions, metrics: Metrics
) -> Guards:
    """Return the guards, opened on the stack. Raises `ConfigurationError`."""
    chosen = settings.guards
    if not chosen.providers:
        return Guards(decisions.enforcer, metrics=metrics)
    guards = [
        Guard(
            entry.name,
            await open_provider(stack, entry),
            frozenset(entry.steps),
            entry.deadline_s,
            may_be_missing=entry.on_failure == "pass",
        )
        for entry in chosen.providers
    ]
    return Guards(
        decisions.enforcer,
        guards,
        key=sealing_secret(settings).reveal().encode(),
        streaming=Streaming(chosen.window, chosen.overlap),
        metrics=metrics,
    )


async def open_provider(stack: AsyncExitStack, entry: GuardEntry) -> GuardProvider:
    """Return who looks, opened on the stack. Raises `ConfigurationError`."""
    if entry.kind == "detector":
        from regate_adapters.guards.detector import Detector

        return Detector()
    from regate_adapters.guards.classifier import ClassifierGuard
    from regate_adapters.guards.endpoint import GuardEndpoint
    from regate_adapters.guards.moderation import ModerationGuard

    assert entry.base_url is not None  # noqa: S101 — INVARIANT: settings demand it with these kinds
    assert entry.model is not None  # noqa: S101 — as above
    key = None
    if entry.api_key_env is not None:
        place = f"guards.providers.{entry.name}.api_key_env"
        key = header_secret_from_environment(entry.api_key_env, setting=place).reveal()
    kind = ModerationGuard if entry.kind == "moderation" else ClassifierGuard
    endpoint = GuardEndpoint(entry.name, entry.base_url, kind.path, api_key=key)
    return kind(await stack.enter_async_context(endpoint), model=entry.model)
