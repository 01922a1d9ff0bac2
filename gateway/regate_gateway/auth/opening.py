"""Opening the providers that the settings name: one `case` for each kind, which imports what it needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from regate_gateway.auth.authentication import (
    DEVELOPMENT_ISSUER,
    development_verifier,
    key_source,
    open_jwt_verifier,
)
from regate_gateway.auth.providers import Provider, Providers
from regate_gateway.config.auth_settings import ApiKeyProvider, JwtProvider, KubernetesProvider, MtlsProvider
from regate_gateway.config.auth_settings import Provider as Entry
from regate_gateway.config.settings import Settings
from regate_orchestrator.errors import naming
from regate_orchestrator.ports import ApiKeyState
from regate_orchestrator.values import Clock, wall_clock

if TYPE_CHECKING:
    from regate_adapters.identity.kubernetes import KubernetesApi, KubernetesVerifier


@asynccontextmanager
async def open_providers(
    settings: Settings, api_keys: ApiKeyState, *, clock: Clock = wall_clock
) -> AsyncIterator[Providers]:
    """Enter all providers, or that of development mode. Raises `ConfigurationError`; a provider that does not
    answer now does not.
    """

    async def opened(entry: Entry) -> Provider:
        match entry:
            case JwtProvider():
                opening = open_jwt_verifier(entry, place=settings.auth.place_of(entry), clock=clock)
                verifier = await stack.enter_async_context(opening)
                return Provider(entry.name, entry.kind, verifier, entry.issuer)
            case KubernetesProvider():
                service_accounts = await stack.enter_async_context(
                    kubernetes_verifier(entry, place=settings.auth.place_of(entry), clock=clock)
                )
                return Provider(entry.name, entry.kind, service_accounts, entry.issuer)
            case ApiKeyProvider():
                from regate_adapters.identity.api_keys import ApiKeyVerifier

                keys = ApiKeyVerifier(api_keys, cache_s=entry.cache_s, clock=clock)
                return Provider(entry.name, entry.kind, keys)
            case MtlsProvider():
                from regate_adapters.identity.certificates import CertificateRules, CertificateVerifier

                rules = CertificateRules(entry.subject, entry.tenant, entry.tenant_from)
                return Provider(entry.name, entry.kind, CertificateVerifier(rules, clock=clock))

    async with AsyncExitStack() as stack:
        if settings.is_development:
            verifier = development_verifier(settings, clock=clock)
            yield Providers([Provider("development", "jwt", verifier, DEVELOPMENT_ISSUER)])
        else:
            yield Providers([await opened(entry) for entry in settings.auth.entries])


def check_provider(entry: Entry, *, place: str) -> None:
    """Raise `ConfigurationError` when what the settings name for a provider cannot be used. Makes nothing
    and asks no network.
    """
    match entry:
        case JwtProvider():
            key_source(entry, place=place)
        case KubernetesProvider():
            from regate_adapters.identity.kubernetes import check_files

            with naming(place):
                check_files(_api_of(entry))
        case ApiKeyProvider() | MtlsProvider():
            pass


def kubernetes_verifier(
    entry: KubernetesProvider, *, place: str, clock: Clock = wall_clock
) -> KubernetesVerifier:
    """Return what verifies tokens of the cluster's service accounts, to be entered. Raises
    `ConfigurationError`.
    """
    from regate_adapters.identity.kubernetes import AccountRules, KubernetesVerifier

    rules = AccountRules(entry.audience, entry.tenant, entry.tenant_label, entry.cache_s)
    with naming(place):
        return KubernetesVerifier(_api_of(entry), rules, clock=clock)


def _api_of(entry: KubernetesProvider) -> KubernetesApi:
    from regate_adapters.identity.jwks import check_jwks_url
    from regate_adapters.identity.kubernetes import KubernetesApi

    check_jwks_url(entry.api_server, setting="api_server")
    return KubernetesApi(entry.api_server, entry.ca_file, entry.token_file, entry.deadline_s)
