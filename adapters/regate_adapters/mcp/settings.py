"""The settings of MCP servers (`tools.mcp`). They import nothing of the SDK."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from regate_adapters.settings_types import EnvironmentName, Seconds, Section
from regate_orchestrator.ports import Annotations, Identity

Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
ToolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./-]{1,128}$")]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,63}$", to_lower=True)]

NEVER_GIVEN: Final = frozenset(
    {
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "proxy-authorization",
        "proxy-authenticate",
        "proxy-connection",
        "authorization",
        "cookie",
        "accept",
        "accept-encoding",
        "last-event-id",
        "expect",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-real-ip",
    }
)
"""Headers that nobody gives: those of the connection, of the protocol, and of who vouches for whom. With
them, all that begin with `mcp-`.
"""
_OF_KIND: Final = {
    "static": {"token_env", "token_file", "header"},
    "client": {"headers"},
    "forward": {"audience"},
    "exchange": {
        "token_url",
        "audience",
        "resource",
        "scope",
        "client_id",
        "client_secret_env",
        "ttl_s",
    },
}


class McpIdentity(Section):
    """How the gateway authenticates to a server."""

    kind: Identity = Field(
        default="none",
        description="`none`; `static`: a token of the operator; `client`: what the client gives as "
        "`authorization`; `forward`: the caller's own token; `exchange`: one that it is exchanged for "
        "(RFC 8693).",
    )
    token_env: EnvironmentName | None = Field(
        default=None, description="Environment variable with the token; `static` alone."
    )
    token_file: Path | None = Field(
        default=None, description="File with the token, read again for each connection; `static` alone."
    )
    header: HeaderName = Field(
        default="authorization",
        description="Header that carries the token; in `authorization` after `Bearer`.",
    )
    headers: tuple[HeaderName, ...] = Field(
        default=(), description="Further headers that clients may give for the server; `client` alone."
    )
    audience: str | None = Field(
        default=None,
        min_length=1,
        description="`forward`: what the caller's token must have in `aud`. "
        "`exchange`: the audience to ask for.",
    )
    token_url: str | None = Field(
        default=None, description="Address of the token endpoint; `exchange` alone, and required there."
    )
    resource: str | None = Field(
        default=None, description="The resource to ask a token for; `exchange` alone."
    )
    scope: str | None = Field(default=None, description="The scope to ask for; `exchange` alone.")
    client_id: str | None = Field(default=None, description="The gateway's own id at the token endpoint.")
    client_secret_env: EnvironmentName | None = Field(
        default=None, description="Environment variable with the gateway's secret at the token endpoint."
    )
    ttl_s: Seconds = Field(default=300, description="Longest time for which an exchanged token is used.")

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        belonging = _OF_KIND.get(self.kind, set())
        for name in sorted(self.model_fields_set - {"kind"} - belonging):
            raise ValueError(f"{name} does not belong to kind {self.kind}")
        if self.kind == "static" and (self.token_env is None) == (self.token_file is None):
            raise ValueError("exactly one of token_env and token_file must be set with kind static")
        if self.kind == "forward" and self.audience is None:
            raise ValueError("audience must be set with kind forward: a token goes only to whom it is for")
        if self.kind == "exchange" and (self.token_url is None or self.audience is self.resource is None):
            raise ValueError("token_url, and audience or resource, must be set with kind exchange")
        if self.client_secret_env is not None and self.client_id is None:
            raise ValueError("client_secret_env needs client_id")
        return self

    @field_validator("headers")
    @classmethod
    def _may_be_given(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not may_be_given(name):
                raise ValueError(f"the header {name} is never the client's to give")
        return value

    @field_validator("header")
    @classmethod
    def _may_carry(cls, value: str) -> str:
        if value != "authorization" and not may_be_given(value):
            raise ValueError(f"the header {value} carries no token")
        return value


class RecordedTool(Section):
    """What a tool does, as the operator knows; what is left out is assumed to be the worst."""

    read_only: bool = Field(default=False, description="It changes nothing.")
    destructive: bool = Field(default=True, description="It may delete or overwrite.")
    idempotent: bool = Field(default=False, description="To call it twice does no more than to call it once.")
    open_world: bool = Field(default=True, description="It reaches beyond its server.")

    def annotations(self) -> Annotations:
        """Return them as the core knows them."""
        return Annotations(**self.model_dump())


class McpServerSettings(Section):
    """One server that the operator names."""

    url: str = Field(
        pattern=r"^https?://[^\s@]+$",
        max_length=2_048,
        description="Its address; https, or http in a private network.",
    )
    transport: Literal["http", "sse"] = Field(
        default="http", description="Streamable HTTP, or the older HTTP with SSE."
    )
    identity: McpIdentity = Field(default_factory=McpIdentity)
    tools: dict[ToolName, RecordedTool] = Field(
        default_factory=dict,
        description="What its tools do, by name. What the server says of itself is not believed.",
        json_schema_extra={"default_text": "none"},
    )
    deadline_s: Seconds = Field(default=30, description="Longest time for a call, or for listing its tools.")
    max_result_bytes: int = Field(
        default=1024 * 1024, ge=1_024, le=64 * 1024 * 1024, description="Longest result of a call."
    )
    list_ttl_s: float = Field(
        default=300, ge=0, le=86_400, description="Time for which its list of tools is used again."
    )


class Mcp(Section):
    """MCP servers whose tools run here."""

    servers: dict[Label, McpServerSettings] = Field(
        default_factory=dict,
        description="The servers, by the `server_label` with which requests name them.",
        json_schema_extra={"default_text": "none"},
    )
    server_urls: bool = Field(
        default=False,
        description="Let clients name servers by `server_url` too, where the policy lists their hosts "
        "(`egress_hosts.mcp`).",
    )


def may_be_given(name: str) -> bool:
    """Return whether a header of this name, in lower case, may be given by a client."""
    return name not in NEVER_GIVEN and not name.startswith(("mcp-", "sec-"))
