"""The settings of Oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from regate_adapters.settings_types import EnvironmentName
from regate_adapters.vector.kind import EngineSettings


class OracleSettings(EngineSettings):
    """Oracle Database 23ai or later with AI Vector Search."""

    kind: Literal["oracle"] = "oracle"
    dsn: str = Field(
        min_length=1,
        description="Where an Oracle database is: `host:port/service`, or a name of the wallet's "
        "`tnsnames.ora`; required with `kind: oracle`.",
    )
    user: str = Field(
        min_length=1, description="User of the Oracle database, who owns the tables; required likewise."
    )
    password_env: EnvironmentName = Field(
        description="Environment variable with that user's password; required likewise."
    )
    wallet: Path | None = Field(
        default=None,
        description="Directory of a wallet (`ewallet.pem`, `tnsnames.ora`), as OCI gives it out.",
    )
    wallet_password_env: EnvironmentName | None = Field(
        default=None, description="Environment variable with the wallet's password."
    )
    connections: int = Field(
        default=8,
        ge=1,
        description="Connections to the Oracle database, at most; more searches than that wait.",
        json_schema_extra={"default_text": "8"},
    )
    timeout_s: float = Field(
        default=8,
        gt=0,
        description="Longest time for one operation in the Oracle database, connecting included; adding and "
        "removing may take eight times as long.",
        json_schema_extra={"default_text": "8"},
    )
