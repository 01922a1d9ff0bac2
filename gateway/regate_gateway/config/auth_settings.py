"""The `auth` section of the settings: whose credentials are accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import Field, StringConstraints, field_validator, model_validator

from regate_adapters.settings_types import EnvironmentName, Name, Section, plain_address

Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512",
    "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # fmt: skip

Principal = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@|/+-]{0,127}$")]
"""A name that principals may have, such as that of a tenant."""

_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class Jwt(Section):
    """How an issuer's tokens are verified. Exactly one source of keys must be named."""

    issuer: str = Field(min_length=1, description="The `iss` that every token must have.")
    audience: str = Field(min_length=1, description="The `aud` that every token must have.")
    algorithms: tuple[Algorithm, ...] = Field(
        min_length=1, description="Signature algorithms accepted. HS is never mixed with the others."
    )
    discovery: bool = Field(
        default=False,
        description="Find the issuer's JWKS by its `/.well-known/openid-configuration`; https, or http on "
        "loopback.",
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
            for name in ("discovery", "jwks_url", "jwks_file", "secret_env", "secret_file")
            if getattr(self, name)
        ]
        if len(named) != 1:
            raise ValueError(
                "exactly one of discovery, jwks_url, jwks_file, secret_env, secret_file must be set (found "
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


class _Named(Section):
    """What every provider has."""

    name: Name = Field(description="Name of the provider, unique; policies and audit records have it.")
    kind: str


class JwtProvider(Jwt, _Named):
    """An issuer of JWTs."""

    kind: Literal["jwt"] = Field(description="`jwt`: the tokens of one issuer.")


class ApiKeyProvider(_Named):
    """The API keys that `regate key` makes."""

    kind: Literal["api_key"] = Field(description="`api_key`: the keys that `regate key` makes.")
    cache_s: float = Field(
        default=2,
        ge=0,
        le=30,
        description="Time for which a key that held is remembered, and so the longest that a revocation "
        "takes; 0 asks the state store every time.",
    )


class KubernetesProvider(_Named):
    """The service accounts of a Kubernetes cluster."""

    kind: Literal["kubernetes"] = Field(
        description="`kubernetes`: tokens of a cluster's service accounts, which the cluster reviews."
    )
    audience: str = Field(min_length=1, description="The audience that every token must be for.")
    issuer: str | None = Field(
        default=None,
        min_length=1,
        description="The `iss` of the cluster's tokens. Absent: it is asked about every token that names no "
        "other provider.",
    )
    api_server: str = Field(
        default="https://kubernetes.default.svc",
        description="Address of the cluster's API; https, or http on loopback.",
    )
    ca_file: Path = Field(
        default=_SERVICE_ACCOUNT / "ca.crt",
        description="File with the authorities that the API's certificate is checked against; read again "
        "when it changes.",
    )
    token_file: Path = Field(
        default=_SERVICE_ACCOUNT / "token",
        description="File with the gateway's own token for the API; read again when it changes.",
    )
    tenant: Principal | None = Field(
        default=None, description="The tenant of all its service accounts. This, or `tenant_label`."
    )
    tenant_label: str | None = Field(
        default=None,
        min_length=1,
        max_length=317,
        description="The label of a namespace that names the tenant of its service accounts.",
    )
    cache_s: float = Field(
        default=10, ge=0, le=60, description="Time for which a token that held is not reviewed again."
    )
    deadline_s: float = Field(default=3, gt=0, le=30, description="Longest wait for the API.")

    @field_validator("api_server")
    @classmethod
    def _plain_api_server(cls, value: str) -> str:
        return plain_address(value, instead="token_file")

    @model_validator(mode="after")
    def _one_tenant(self) -> Self:
        if (self.tenant is None) == (self.tenant_label is None):
            raise ValueError("exactly one of tenant and tenant_label must be set")
        return self


class MtlsProvider(_Named):
    """Clients that present a certificate."""

    kind: Literal["mtls"] = Field(description="`mtls`: certificates of clients (`listen.tls.client_ca`).")
    subject: Literal["spiffe_id", "dns_name", "email", "common_name"] = Field(
        default="spiffe_id",
        description="The name in the certificate that is the caller; it must have exactly one of the kind.",
    )
    tenant: Principal | None = Field(
        default=None, description="The tenant of all certificates. This, or `tenant_from`."
    )
    tenant_from: Literal["organization", "trust_domain"] | None = Field(
        default=None,
        description="What in the certificate names its tenant: the subject's organization (O), or the trust "
        "domain of the SPIFFE id.",
    )

    @model_validator(mode="after")
    def _one_tenant(self) -> Self:
        if (self.tenant is None) == (self.tenant_from is None):
            raise ValueError("exactly one of tenant and tenant_from must be set")
        return self


Provider: TypeAlias = Annotated[
    JwtProvider | KubernetesProvider | ApiKeyProvider | MtlsProvider, Field(discriminator="kind")
]


class Auth(Section):
    """Who may call. Without providers and without `anonymous` the gateway runs in development mode, with a
    secret of its own.
    """

    jwt: Jwt | None = Field(
        default=None,
        description="Short for `providers` with one entry, named `jwt`, of kind `jwt`. With neither: "
        "development mode, on loopback only.",
    )
    providers: tuple[Provider, ...] = Field(
        default=(),
        description="Who vouches for callers; each entry has the keys below. What a token says of itself "
        "finds the one that verifies it.",
    )
    anonymous: bool = Field(
        default=False,
        description="Accept requests without a token, as the anonymous principal; on loopback only.",
    )

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        if self.jwt is not None and self.providers:
            raise ValueError(
                "jwt is short for one provider: set providers alone, with an entry of kind jwt among them"
            )
        names = [entry.name for entry in self.providers]
        if len(set(names)) != len(names):
            raise ValueError("providers: two have the same name")
        issuers = [issuer for entry in self.providers if (issuer := getattr(entry, "issuer", None))]
        if len(set(issuers)) != len(issuers):
            raise ValueError("providers: two have the same issuer, so no token would say which verifies it")
        if sum(entry.kind == "mtls" for entry in self.providers) > 1:
            raise ValueError("providers: two are of kind mtls; all certificates are verified alike")
        if sum(entry.kind == "kubernetes" and entry.issuer is None for entry in self.providers) > 1:
            raise ValueError(
                "providers: two of kind kubernetes have no issuer, so no token would say which verifies it"
            )
        if sum(entry.kind == "api_key" for entry in self.providers) > 1:
            raise ValueError("providers: two are of kind api_key; all keys begin alike, and one takes them")
        return self

    @property
    def entries(self) -> tuple[Provider, ...]:
        """Return the providers, with what `jwt` is short for; none in development mode."""
        if self.jwt is None:
            return self.providers
        return (JwtProvider(name="jwt", kind="jwt", **self.jwt.model_dump()),)

    def place_of(self, entry: Provider) -> str:
        """Return the setting that holds the provider."""
        return "auth.jwt" if self.jwt is not None else f"auth.providers.{entry.name}"
