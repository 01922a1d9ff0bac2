"""The `listen` section of the settings: where clients connect, and how much they may send."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from regate_adapters.settings_types import Seconds, Section

_MIB: Final = 1024 * 1024


class Tls(Section):
    """TLS that the gateway terminates itself, and whether clients present certificates."""

    cert: Path = Field(
        description="File with the gateway's certificate and those between it and its authority, in PEM; "
        "read again when it changes."
    )
    key: Path = Field(description="File with its private key, in PEM; read again when it changes.")
    client_ca: Path | None = Field(
        default=None,
        description="File with the authorities, in PEM, by which clients' certificates are verified. Absent: "
        "clients present none.",
    )
    client_certificates: Literal["required", "optional"] = Field(
        default="required",
        description="With `client_ca`: whether a client without a certificate may connect, for example to "
        "present a token.",
    )


class Listen(Section):
    """Where the gateway listens, and what one client may cost it."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to bind. Only a loopback address is accepted without `auth.jwt` or "
        "`auth.providers`.",
    )
    port: int = Field(default=8080, ge=0, le=65_535, description="Port to bind; 0 chooses a free one.")
    workers: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Processes that serve, with one OPA for all. More than one need PostgreSQL, and vector "
        "engines that are servers.",
    )
    tls: Tls | None = Field(
        default=None, description="Serve https. Absent: http, for what terminates TLS in front of it."
    )
    max_connections: int = Field(
        default=1_000,
        ge=1,
        le=100_000,
        description="Connections at once, of each worker; one more is answered 503 and closed.",
    )
    head_timeout_s: Seconds = Field(
        default=10,
        description="Time within which a TLS handshake must be done, and a request's whole head must arrive.",
    )
    receive_timeout_s: Seconds = Field(
        default=30, description="Period in which at least 4 KiB of a request body (or its end) must arrive."
    )
    write_timeout_s: Seconds = Field(
        default=60, description="Time that a client may leave its answer unread before it is disconnected."
    )
    keep_alive_s: Seconds = Field(default=30, description="Time that an idle connection is kept open.")
    shutdown_grace_s: Seconds = Field(
        default=20, description="Time that running requests have to finish at shutdown."
    )
    shutdown_notice_s: float = Field(
        default=3,
        ge=0,
        le=3_600,
        description="Time after SIGTERM in which `/readyz` says 503 and all else is answered, before the "
        "gateway "
        "stops to listen; "
        "load balancers should notice within it.",
    )
    cors_origins: tuple[str, ...] = Field(
        default=(),
        description=(
            "Origins of web pages that may call the API from a browser, as `https://app.example.com`."
        ),
    )
    max_head_bytes: int = Field(
        default=32 * 1024,
        ge=8 * 1024,
        le=_MIB,
        description="Largest request head (request line and headers).",
    )
    max_headers: int = Field(default=100, ge=10, le=1_000, description="Most header lines of one request.")
    max_body_bytes: int = Field(default=10 * _MIB, ge=1_024, description="Largest JSON body.")
    max_file_bytes: int = Field(default=512 * _MIB, ge=1, description="Largest uploaded file.")

    @field_validator("cors_origins")
    @classmethod
    def _plain_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            if (
                parts.scheme not in {"http", "https"}
                or origin != f"{parts.scheme}://{parts.netloc}"
                or not parts.hostname
                or "@" in origin
            ):
                raise ValueError(
                    f"{origin!r} is not an origin: write scheme, host and port as a browser does, such "
                    "as https://app.example.com"
                )
            if origin != origin.lower():
                raise ValueError(f"{origin!r}: browsers send origins in lower case")
        return value

    @property
    def scheme(self) -> str:
        """How clients address it."""
        return "http" if self.tls is None else "https"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
