"""Several providers: a token is verified by the one that it names, and by no other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from regate_adapters.identity.jwt import mint_development_token
from regate_adapters.state.store import SqlStateStore
from regate_gateway.auth.opening import check_provider, open_providers
from regate_gateway.auth.providers import Providers
from regate_gateway.config.loading import load_settings
from regate_gateway.config.settings import Settings
from regate_orchestrator.errors import ConfigurationError, Unauthenticated

SECRETS = {"https://one.example": "1" * 32, "https://two.example": "2" * 32}


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for number, secret in enumerate(SECRETS.values(), 1):
        monkeypatch.setenv(f"SECRET_{number}", secret)


def issuer(number: int) -> dict[str, Any]:
    return {
        "name": f"idp-{number}",
        "kind": "jwt",
        "issuer": list(SECRETS)[number - 1],
        "audience": "regate",
        "algorithms": ["HS256"],
        "secret_env": f"SECRET_{number}",
    }


def settings(*providers: dict[str, Any]) -> Settings:
    return load_settings(overrides={"auth": {"providers": list(providers)}})


def token(issuer: str, *, secret: str | None = None) -> str:
    return mint_development_token(
        (secret or SECRETS[issuer]).encode(),
        issuer=issuer,
        audience="regate",
        subject="alice",
        tenant="acme",
        ttl_s=60,
    )


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStateStore]:
    async with SqlStateStore.open(f"sqlite:///{tmp_path / 'state.db'}", deadline_s=60) as opened:
        yield opened


async def verified(providers: Providers, presented: str) -> tuple[str, object] | None:
    """Who verified it, and as whose; None for what nobody takes."""
    provider = providers.of_token(presented)
    try:
        return (
            None if provider is None else (provider.name, (await provider.verifier.verify(presented))["iss"])
        )
    except Unauthenticated:
        return None


async def test_each_issuers_tokens_are_verified_with_its_own_keys_alone(store: SqlStateStore) -> None:
    one, two = SECRETS
    presented = {
        "one": token(one),
        "two": token(two),
        "one, signed by two": token(one, secret=SECRETS[two]),
        "two, signed by one": token(two, secret=SECRETS[one]),
        "with a slash": token(one + "/", secret=SECRETS[one]),
        "of nobody": token("https://three.example", secret=SECRETS[one]),
    }
    async with open_providers(settings(issuer(1), issuer(2)), store.api_keys) as providers:
        found = {name: await verified(providers, one) for name, one in presented.items()}
    assert found == {**dict.fromkeys(presented), "one": ("idp-1", one), "two": ("idp-2", two)}


@pytest.mark.parametrize(
    "presented",
    ["x", "a.b.c", "e30.bnVsbA.x", "e30.W10.x", "e30.eyJpc3MiOiBbXX0.x", "." * 9, "rgk_x", "e30." * 9],
)
async def test_what_names_no_issuer_is_nobodys(store: SqlStateStore, presented: str) -> None:
    async with open_providers(settings(issuer(1), issuer(2)), store.api_keys) as providers:
        assert providers.of_token(presented) is None


def cluster(**changes: Any) -> dict[str, Any]:
    entry = {"name": "cluster", "kind": "kubernetes", "audience": "regate", "tenant": "acme"}
    return entry | {"api_server": "http://127.0.0.1:1", "token_file": "token"} | changes


OWN: dict[str, str | None] = {"one": "idp-1", "key": "keys"}


@pytest.mark.parametrize(
    ("issuer_of_cluster", "expected"),
    [
        (None, OWN | {"cluster": "cluster", "unknown": "cluster", "opaque": "cluster"}),
        ("https://cluster", OWN | {"cluster": "cluster", "unknown": None, "opaque": None}),
    ],
    ids=["without an issuer", "with its issuer"],
)
async def test_cluster_takes_what_names_it_or_what_names_nobody(
    store: SqlStateStore, issuer_of_cluster: str | None, expected: dict[str, str | None]
) -> None:
    entries = (issuer(1), cluster(issuer=issuer_of_cluster), {"name": "keys", "kind": "api_key"})
    presented = {
        "one": token(next(iter(SECRETS))),
        "cluster": token("https://cluster", secret="x" * 32),
        "unknown": token("https://three.example", secret="x" * 32),
        "opaque": "opaque",
        "key": "rgk_x",
    }
    async with open_providers(settings(*entries), store.api_keys) as providers:
        found = {name: providers.of_token(one) for name, one in presented.items()}
    assert {name: one and one.name for name, one in found.items()} == expected


async def test_lone_cluster_is_told_of_no_credential_that_is_not_its_own(store: SqlStateStore) -> None:
    ours, theirs = token("https://cluster", secret="x" * 32), token(next(iter(SECRETS)))
    found = []
    for entry in (cluster(issuer="https://cluster"), cluster()):
        async with open_providers(settings(entry), store.api_keys) as providers:
            found.append([providers.of_token(one) is not None for one in (ours, theirs, "rgk_x")])
    assert found == [[True, False, False], [True, True, False]]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (cluster(api_server="http://cluster.example"), "auth.providers.cluster: api_server must be https"),
        (cluster(), "auth.providers.cluster: token_file: token cannot be used"),
        (cluster(token_file="empty"), "auth.providers.cluster: token_file: empty cannot be used"),
        (cluster(api_server="https://127.0.0.1", token_file="some"), "cluster: ca_file: /var/run/secrets/"),
    ],
)
def test_cluster_that_cannot_be_asked_does_not_start(entry: dict[str, Any], says: str) -> None:
    Path("empty").touch()
    Path("some").write_text("token")
    (read,) = settings(entry).auth.entries
    with pytest.raises(ConfigurationError) as refused:
        check_provider(read, place=settings(entry).auth.place_of(read))
    assert says in refused.value.message


def test_the_short_form_is_a_list_of_one() -> None:
    entry = issuer(1)
    short = {name: value for name, value in entry.items() if name not in {"name", "kind"}}
    (made,) = load_settings(overrides={"auth": {"jwt": short}}).auth.entries
    (listed,) = settings(entry | {"name": "jwt"}).auth.entries
    assert made == listed
