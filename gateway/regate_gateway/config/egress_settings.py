"""The `egress` section of the settings: what the gateway may connect to on somebody's word, whatever the
policy says. A part of `settings.py`.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from pydantic import Field, field_validator

from regate_adapters.settings_types import Section


class Egress(Section):
    """Connections to what clients, models and the configuration of tools name. Who may is the policy's to say
    (`regate.egress`).
    """

    allow_private: tuple[str, ...] = Field(
        default=(),
        description="Networks that are not public and may be connected to, as `10.1.0.0/16`. "
        "The policy must permit the host too.",
    )
    ports: tuple[int, ...] = Field(
        default=(443,),
        description="Ports that clients and models may name. Those of the configuration need not be here.",
        json_schema_extra={"default_text": "443"},
    )
    max_bytes: int = Field(
        default=20 * 1024 * 1024,
        ge=1,
        le=512 * 1024 * 1024,
        description="Largest file or image that is fetched.",
    )
    deadline_s: float = Field(
        default=20, gt=0, le=600, description="Time that a fetch may take, redirects included."
    )
    redirects: int = Field(
        default=3,
        ge=0,
        le=10,
        description="Redirects that a fetch follows; each is decided as an address is.",
    )
    ca_file: Path | None = Field(
        default=None,
        description="File with certificates (PEM) of authorities to trust, beside those of the system.",
    )

    @field_validator("allow_private")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                ip_network(text)
            except ValueError as error:
                raise ValueError(f"{text!r} is no network: {error}") from None
        return value

    @field_validator("ports")
    @classmethod
    def _ports(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not all(0 < port < 65_536 for port in value):
            raise ValueError("ports are numbers from 1 to 65535")
        return value

    @property
    def private_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Return the networks of `allow_private`."""
        return tuple(map(ip_network, self.allow_private))
