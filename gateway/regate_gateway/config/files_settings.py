"""The settings of where uploaded bytes are kept. A part of `settings.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from regate_adapters.settings_types import EnvironmentName, Section, below_data_dir, plain_address

BucketName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
KeyPrefix = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9_-][A-Za-z0-9._-]*/)+$", max_length=256)]


class Files(Section):
    """Where uploaded bytes are kept. Without names of keys, S3 is accessed in the role of the machine
    or pod, as AWS has it.
    """

    kind: Literal["disk", "s3"] = Field(
        default="disk", description="A directory (a mounted volume is one), or S3-compatible storage."
    )
    path: Path = Field(
        description=(
            "Directory of the files; with `kind: s3`, of the temporary copies that text is taken out of."
        ),
        json_schema_extra=below_data_dir("files"),
    )
    bucket: BucketName | None = Field(default=None, description="The bucket; required with `kind: s3`.")
    endpoint_url: str | None = Field(
        default=None, description="Address of the storage; absent, it is AWS in the region."
    )
    region: str | None = Field(
        default=None, pattern=r"^[a-z0-9-]{1,64}$", description="The region; absent, `us-east-1`."
    )
    prefix: KeyPrefix | None = Field(
        default=None, description="What the objects' keys begin with, ending in `/`; absent, nothing."
    )
    access_key_id_env: EnvironmentName | None = Field(
        default=None, description="Environment variable with the access key's id."
    )
    secret_access_key_env: EnvironmentName | None = Field(
        default=None, description="Environment variable with the secret access key."
    )
    session_token_env: EnvironmentName | None = Field(
        default=None, description="Environment variable with the session token, if any."
    )

    @field_validator("endpoint_url")
    @classmethod
    def _plain_endpoint(cls, value: str | None) -> str | None:
        return (
            None
            if value is None
            else plain_address(value, instead="access_key_id_env and secret_access_key_env")
        )

    @model_validator(mode="after")
    def _place_of_its_kind(self) -> Self:
        if self.kind == "s3" and self.bucket is None:
            raise ValueError("bucket must be set with kind s3")
        of_s3 = (
            "bucket",
            "endpoint_url",
            "region",
            "prefix",
            "access_key_id_env",
            "secret_access_key_env",
            "session_token_env",
        )
        for name in of_s3:
            if self.kind != "s3" and getattr(self, name) is not None:
                raise ValueError(f"{name} does not belong to kind {self.kind}")
        if (self.access_key_id_env is None) != (self.secret_access_key_env is None):
            raise ValueError("access_key_id_env and secret_access_key_env must both be set, or neither")
        if self.session_token_env is not None and self.access_key_id_env is None:
            raise ValueError("session_token_env needs access_key_id_env and secret_access_key_env")
        return self
