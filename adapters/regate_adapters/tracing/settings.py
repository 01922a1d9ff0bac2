"""The settings of traces: where they go, how many there are, and what they may tell and believe."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from regate_adapters.settings_types import EnvironmentName, Seconds, Section, plain_address


class Traces(Section):
    """Traces of requests, for a collector. Never prompts, texts, arguments, names of files, or tokens."""

    endpoint: str = Field(
        description="Where a collector takes traces by OTLP over HTTP, as `https://collector:4318/v1/traces`."
    )
    headers_env: EnvironmentName | None = Field(
        default=None,
        description="Environment variable with headers for the collector, as `name=value,name=value`.",
    )
    ca_file: Path | None = Field(
        default=None,
        description="File with the certificates of the authorities that vouch for the collector. Absent: the "
        "well-known ones.",
    )
    sample: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.1, description="Share of requests that are traced, from 0 to 1. Others cost nothing."
    )
    trust_incoming: bool = Field(
        default=False,
        description="Go on with the trace that a client names in `traceparent`, and trace what it says is "
        "sampled. Only for clients that you trust with both.",
    )
    principal: bool = Field(
        default=False,
        description="Tell on a request's span who asks, by the digest that is `principal` in audit records.",
    )
    queue: int = Field(
        default=4096,
        ge=16,
        le=1_000_000,
        description="Most spans that wait for the collector; further ones are dropped and counted.",
    )
    timeout_s: Seconds = Field(
        default=10, description="Longest attempt to hand a batch of spans over; then the batch is dropped."
    )
    flush_s: Seconds = Field(
        default=5, description="Longest time that the end of the gateway waits for spans to be handed over."
    )

    @field_validator("endpoint")
    @classmethod
    def _plain(cls, value: str) -> str:
        return plain_address(value, instead="headers_env")


def has_tracing() -> bool:
    """Return whether what traces are exported with is installed."""
    try:
        found = importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:  # not even what it lies in
        return False
    return found is not None and importlib.util.find_spec("opentelemetry.sdk") is not None
