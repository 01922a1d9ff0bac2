"""The `opa` section of the settings: where policies come from, and who decides by them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from regate_adapters.settings_types import EnvironmentName, Section


class Opa(Section):
    """The policy engine."""

    mode: Literal["managed", "remote"] = Field(
        default="managed", description="Run OPA as a child process, or use a given one."
    )
    url: str | None = Field(
        default=None, description="Address of the OPA to use; required with `mode: remote`."
    )
    bundle: Path | None = Field(
        default=None,
        description="Policy directory of the managed OPA, or with `verification_key` a signed bundle, "
        "watched for "
        "changes. "
        "Absent: the shipped policies.",
    )
    verification_key: Path | None = Field(
        default=None,
        description=(
            "File with the RSA public key (PEM) that the bundle's signature must verify with; `bundle` is "
            "then a signed bundle."
        ),
    )
    binary: Path | None = Field(
        default=None, description="The `opa` to run. Absent: the first on the PATH that is recent enough."
    )
    token_env: EnvironmentName | None = Field(
        default=None, description="Environment variable with the token for a remote OPA."
    )
    timeout_ms: int = Field(
        default=1_500, ge=10, le=60_000, description="Deadline of one decision; later is a refusal."
    )
    cache_s: float = Field(
        default=5,
        ge=0,
        le=60,
        description="Time for which a compiled filter, and who a caller is, may call and may spend, are used "
        "again under the same policy and input; 0 asks every time. Other decisions are never kept.",
    )

    shadow: Path | None = Field(
        default=None,
        description="Directory of a candidate policy that is asked everything too, off the hot path. It "
        "changes no "
        "answer; "
        "`regate policy shadow` shows what it would change.",
    )

    @model_validator(mode="after")
    def _address_when_remote(self) -> Self:
        if (self.mode == "remote") != (self.url is not None):
            raise ValueError("url must be set with mode remote, and only then")
        if self.url is not None:
            parts = urlsplit(self.url)
            if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
                raise ValueError("url must be an http or https address without user name or password")
        if self.mode == "remote" and (self.bundle is not None or self.binary is not None):
            raise ValueError("bundle and binary belong to mode managed; a remote OPA loads its own policies")
        if self.verification_key is not None and self.bundle is None:
            raise ValueError(
                "verification_key belongs to a bundle of mode managed; a remote OPA verifies with a "
                "key of its own"
            )
        return self
