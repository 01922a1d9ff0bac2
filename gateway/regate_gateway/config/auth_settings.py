"""The `auth` section of the settings: whose tokens are accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from regate_adapters.settings_types import EnvironmentName, Section

Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512",
    "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # fmt: skip


class Jwt(Section):
    """How bearer tokens are verified. Exactly one source of keys must be named."""

    issuer: str = Field(min_length=1, description="The `iss` that every token must have.")
    audience: str = Field(min_length=1, description="The `aud` that every token must have.")
    algorithms: tuple[Algorithm, ...] = Field(
        min_length=1, description="Signature algorithms accepted. HS is never mixed with the others."
    )
    jwks_url: str | None = Field(
        default=None, description="Address of the issuer's JWKS; https, or http on loopback."
    )
    jwks_file: Path | None = Field(
        default=None, description="File with the issuer's JWKS, read again when it changes."
    )
    secret_env: EnvironmentName | None = Field(
        default=None, description="Environment variable with the shared HS secret, 32 bytes or more."
    )
    secret_file: Path | None = Field(
        default=None,
        description="File with the shared HS secret, 32 bytes or more, not readable by everybody.",
    )
    leeway_s: float = Field(
        default=30, ge=0, le=300, description="Difference of clocks forgiven in `exp`, `nbf` and `iat`."
    )
    cache_s: float = Field(
        default=5,
        ge=0,
        le=300,
        description="Time for which a good verdict on a token is remembered, its own end at most; 0 verifies "
        "every time.",
    )

    @model_validator(mode="after")
    def _one_key_source(self) -> Self:
        named = [
            name
            for name in ("jwks_url", "jwks_file", "secret_env", "secret_file")
            if getattr(self, name) is not None
        ]
        if len(named) != 1:
            raise ValueError(
                "exactly one of jwks_url, jwks_file, secret_env, secret_file must be set (found "
                f"{len(named)})"
            )
        symmetric = [name for name in self.algorithms if name.startswith("HS")]
        if symmetric and len(symmetric) != len(self.algorithms):
            raise ValueError(
                "algorithms must not mix HS with RS, PS, ES or EdDSA: a public key would serve as a secret"
            )
        if bool(symmetric) != named[0].startswith("secret"):
            raise ValueError(
                f"{named[0]} does not fit the algorithms: HS needs a shared secret, the others a JWKS"
            )
        return self


class Auth(Section):
    """Who may call. Without `jwt` and without `anonymous` the gateway runs in development mode, with a
    secret of its own.
    """

    jwt: Jwt | None = Field(
        default=None, description="Verification of bearer tokens. Absent: development mode, on loopback only."
    )
    anonymous: bool = Field(
        default=False,
        description="Accept requests without a token, as the anonymous principal; on loopback only.",
    )
