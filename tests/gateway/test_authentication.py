"""From settings to a verifier: development mode's own secret, and the secrets that settings name."""

from __future__ import annotations

import asyncio
import pickle
import stat
from pathlib import Path

import pytest

from regate_adapters.identity.jwt import mint_development_token
from regate_adapters.state.store import SqlStateStore
from regate_gateway.auth.authentication import shared_secret, token_rules
from regate_gateway.auth.opening import check_provider, open_providers
from regate_gateway.config.loading import load_settings
from regate_gateway.config.secret import Secret
from regate_gateway.config.settings import Settings
from regate_orchestrator.errors import ConfigurationError, Unauthenticated


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def with_jwt(algorithm: str = "HS256", **source: str) -> Settings:
    return load_settings(
        overrides={"auth": {"jwt": {"issuer": "i", "audience": "a", "algorithms": [algorithm], **source}}}
    )


def token_for(settings: Settings, secret: Secret) -> str:
    rules = token_rules(settings)
    return mint_development_token(
        secret.reveal().encode(),
        issuer=rules.issuer,
        audience=rules.audience,
        subject="alice",
        tenant="acme",
        ttl_s=60,
    )


def check(settings: Settings) -> None:
    for entry in settings.auth.entries:
        check_provider(entry, place=settings.auth.place_of(entry))


async def verified_by(settings: Settings, token: str) -> tuple[str, object]:
    """Who verified the token, and the issuer that it names."""
    async with (
        SqlStateStore.open("sqlite:///state.db", deadline_s=60) as state,
        open_providers(settings, state.api_keys) as providers,
    ):
        provider = providers.of_token(token)
        assert provider is not None
        return provider.name, (await provider.verifier.verify(token))["iss"]


async def test_development_token_is_accepted_by_the_same_settings() -> None:
    settings = load_settings()
    token = token_for(settings, shared_secret(settings))
    assert await verified_by(settings, token) == ("development", "regate-dev")


async def test_development_token_of_another_data_dir_is_refused() -> None:
    ours, theirs = (
        load_settings(overrides={"data_dir": "ours"}),
        load_settings(overrides={"data_dir": "theirs"}),
    )
    token = token_for(theirs, shared_secret(theirs))
    with pytest.raises(Unauthenticated):
        await verified_by(ours, token)


def test_development_secret_is_private_and_kept() -> None:
    settings = load_settings()
    first, second = shared_secret(settings), shared_secret(settings)
    mode = stat.S_IMODE((settings.data_dir / "development.secret").stat().st_mode)
    assert (
        first == second,
        mode,
        len(first.reveal()),
        [path.name for path in settings.data_dir.iterdir()],
    ) == (
        True,
        0o600,
        64,
        ["development.secret"],
    )


async def test_two_processes_that_start_at_once_agree_on_the_secret() -> None:
    settings = load_settings()
    found = await asyncio.gather(*(asyncio.to_thread(shared_secret, settings) for _ in range(8)))
    assert len({secret.reveal() for secret in found}) == 1


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606])
def test_development_secret_that_others_can_read_does_not_start(mode: int) -> None:
    settings = load_settings()
    shared_secret(settings)
    (settings.data_dir / "development.secret").chmod(mode)
    with pytest.raises(ConfigurationError, match="open to other users"):
        shared_secret(settings)


def test_development_secret_that_was_emptied_does_not_start() -> None:
    settings = load_settings()
    shared_secret(settings)
    (settings.data_dir / "development.secret").write_text("", encoding="ascii")
    with pytest.raises(ConfigurationError, match="fewer than 32 bytes"):
        shared_secret(settings)


def test_checking_makes_no_secret() -> None:
    settings = load_settings()
    check(settings)
    assert not settings.data_dir.exists()


async def test_secret_from_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_SECRET", "s" * 32)
    settings = with_jwt(secret_env="TOKEN_SECRET")
    token = token_for(settings, Secret("s" * 32))
    assert await verified_by(settings, token) == ("jwt", "i")


def test_secret_from_a_file_is_used_without_its_line_end(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("s" * 32 + "\n", encoding="ascii")
    path.chmod(0o600)
    assert shared_secret(with_jwt(secret_file=str(path))).reveal() == "s" * 32


@pytest.mark.parametrize("value", [None, "", "s" * 31])
def test_absent_or_short_secret_does_not_start(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is not None:
        monkeypatch.setenv("TOKEN_SECRET", value)
    with pytest.raises(ConfigurationError, match=r"auth\.jwt\.secret_env"):
        check(with_jwt(secret_env="TOKEN_SECRET"))


def test_secret_file_that_everybody_can_read_does_not_start(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("s" * 32, encoding="ascii")
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="open to every user"):
        check(with_jwt(secret_file=str(path)))


@pytest.mark.parametrize(
    "source",
    [{"jwks_url": "http://idp.example/jwks"}, {"jwks_file": "absent.json"}],
    ids=["JWKS without TLS", "absent JWKS file"],
)
def test_unusable_jwks_does_not_start(source: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        check(with_jwt("RS256", **source))


def hs(number: int) -> dict[str, object]:
    entry = {"kind": "jwt", "issuer": f"i{number}", "audience": "a", "algorithms": ["HS256"]}
    return {**entry, "name": f"idp-{number}", "secret_env": f"SECRET_{number}"}


def test_tokens_are_minted_for_the_one_issuer_that_shares_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_1", "1" * 32)
    published = {**hs(2), "algorithms": ["RS256"], "secret_env": None, "discovery": True}
    keys: dict[str, object] = {"name": "keys", "kind": "api_key"}
    said = []
    for providers in ([published, hs(1), keys], [hs(1), hs(3)], [keys]):
        settings = load_settings(overrides={"auth": {"providers": providers}})
        try:
            said.append(f"{token_rules(settings).issuer} {shared_secret(settings).reveal()[0]}")
        except ConfigurationError as error:
            said.append(error.message)
    assert said == [
        "i1 1",
        "auth.providers: several issuers share a secret with the gateway (idp-1, idp-3)",
        "auth.providers: there is no issuer of JWTs among them",
    ]


def test_tokens_of_a_provider_cannot_be_minted_here() -> None:
    with pytest.raises(ConfigurationError, match="private key"):
        shared_secret(with_jwt("RS256", jwks_url="https://idp.example/jwks"))


def test_secret_shows_itself_nowhere() -> None:
    secret = Secret("hidden")
    shown = f"{secret} {secret!r} {[secret]} {secret:}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert ("hidden" in shown, "***" in shown, secret == Secret("hidden"), secret == "hidden") == (
        False,
        True,
        True,
        False,
    )
