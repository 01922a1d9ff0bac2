"""The `audit` section of the settings: where the record of decisions is kept, how it is signed, and where it
goes.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from regate_adapters.settings_types import EnvironmentName, Name, Section, below_data_dir, plain_address


class Export(Section):
    """A place to which every record is exported."""

    name: Name = Field(description="Name of the destination, unique; used in metrics.")
    kind: Literal["otlp", "postgres"] = Field(
        description="An OpenTelemetry collector (OTLP over HTTP, as JSON), or a PostgreSQL database."
    )
    url: str | None = Field(
        default=None,
        description="Where a collector takes logs, as `https://collector:4318/v1/logs`; required with "
        "`kind: otlp`.",
    )
    authorization_env: EnvironmentName | None = Field(
        default=None,
        description="Environment variable with what the collector is sent as `Authorization`, if anything.",
    )
    url_env: EnvironmentName | None = Field(
        default=None,
        description="Environment variable with the database's URL, as "
        "`postgresql://user:password@host/database`; required with `kind: postgres`.",
    )
    table: str = Field(
        default="regate_audit",
        pattern=r"^[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62})?$",
        description="The database's table, with its schema if that is not the user's own; made when it "
        "is not there.",
    )

    @field_validator("url")
    @classmethod
    def _plain(cls, value: str | None) -> str | None:
        return None if value is None else plain_address(value, instead="authorization_env")

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        if self.kind == "otlp" and (self.url is None or self.url_env is not None):
            raise ValueError("with kind otlp, url must be set, and url_env must not")
        if self.kind == "postgres":
            if self.url_env is None or self.url is not None or self.authorization_env is not None:
                raise ValueError("with kind postgres, url_env must be set, and no url or authorization_env")
            if importlib.util.find_spec("psycopg") is None:
                raise ValueError("kind postgres needs psycopg: install regate[postgres]")
        return self


class Audit(Section):
    """The append-only record of decisions, chained and signed."""

    path: Path = Field(description="Directory of the record.", json_schema_extra=below_data_dir("audit"))
    on_failure: Literal["block", "count"] = Field(
        default="block",
        description=(
            "When a record cannot be written: `block` the request, or let it happen and `count` the loss."
        ),
    )
    checkpoint_s: int = Field(
        default=60,
        ge=1,
        le=86_400,
        description="Longest time that a record waits for a checkpoint, the signature over all before it.",
    )
    checkpoint_records: int = Field(
        default=10_000, ge=1, le=1_000_000, description="Most records from one checkpoint to the next."
    )
    checkpoints: Path = Field(
        description="File with a copy of each checkpoint, which tells when the log is cut short; best on "
        "other storage, to which this gateway may only append.",
        json_schema_extra={"default_text": "<audit.path>/checkpoints.jsonl"},
    )
    signing_key_file: Path | None = Field(
        default=None,
        description="File with the Ed25519 key that signs checkpoints: PEM, or its 32 bytes in base64. "
        "Absent: one of this gateway's own, in `data_dir`.",
    )
    signing_key_env: EnvironmentName | None = Field(
        default=None, description="Environment variable that holds the key instead."
    )

    export: tuple[Export, ...] = Field(
        default=(),
        description="Where every record is exported to, in the background, at least once and in order; each "
        "entry has the keys below.",
    )

    @model_validator(mode="after")
    def _each_name_once(self) -> Self:
        names = [one.name for one in self.export]
        if len(set(names)) != len(names):
            raise ValueError("export names a destination twice")
        return self

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.signing_key_file is not None and self.signing_key_env is not None:
            raise ValueError("signing_key_file and signing_key_env must not both be set")
        return self
