"""Opening the providers that the settings name: one `case` for each kind, which imports what it needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from regate_gateway.auth.authentication import (
    DEVELOPMENT_ISSUER,
    development_verifier,
    key_source,
    open_jwt_verifier,
)
from regate_gateway.auth.providers import Provider, Providers
from regate_gateway.config.auth_settings import JwtProvider
from regate_gateway.config.auth_settings import Provider as Entry
from regate_gateway.config.settings import Settings
from regate_orchestrator.values import Clock, wall_clock


@asynccontextmanager
async def open_providers(settings: Settings, *, clock: Clock = wall_clock) -> AsyncIterator[Providers]:
    """Enter all providers, or that of development mode. Raises `ConfigurationError`; a provider that does not
    answer now does not.
    """
    async with AsyncExitStack() as stack:
        opened = [
            await _open_provider(stack, entry, place=settings.auth.place_of(entry), clock=clock)
            for entry in settings.auth.entries
        ]
        if settings.is_development:
            verifier = development_verifier(settings, clock=clock)
            opened = [Provider("development", "jwt", verifier, DEVELOPMENT_ISSUER)]
        yield Providers(opened)


async def _open_provider(stack: AsyncExitStack, entry: Entry, *, place: str, clock: Clock) -> Provider:
    match entry:
        case JwtProvider():
            verifier = await stack.enter_async_context(open_jwt_verifier(entry, place=place, clock=clock))
            return Provider(entry.name, entry.kind, verifier, entry.issuer)


def check_provider(entry: Entry, *, place: str) -> None:
    """Raise `ConfigurationError` when what the settings name for a provider cannot be used. Makes nothing
    and asks no network.
    """
    match entry:
        case JwtProvider():
            key_source(entry, place=place)
