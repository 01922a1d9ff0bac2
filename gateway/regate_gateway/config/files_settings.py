"""The settings of where uploaded bytes are kept. A part of `settings.py`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from regate_adapters.settings_types import EnvironmentName, Section, below_data_dir, plain_address

BucketName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$")]
KeyPrefix = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9_-][A-Za-z0-9._-]*/)+$", max_length=256)]


_BELONG: Final[Mapping[str, frozenset[str]]] = {
    "bucket": frozenset({"s3", "gcs"}),
    "endpoint_url": frozenset({"s3", "gcs"}),
    "prefix": frozenset({"s3", "gcs"}),
    "region": frozenset({"s3"}),
    "access_key_id_env": frozenset({"s3"}),
    "secret_access_key_env": frozenset({"s3"}),
    "session_token_env": frozenset({"s3"}),
    "service_account_file": frozenset({"gcs"}),
    "anonymous": frozenset({"gcs"}),
}


class Files(Section):
    """Where uploaded bytes are kept. Without names of keys, S3 is accessed in the role of the machine
    or pod, as AWS has it; Google Cloud Storage likewise without the file of a service account.
    """

    kind: Literal["disk", "s3", "gcs"] = Field(
        default="disk",
        description="A directory (a mounted volume is one), S3-compatible storage, or Google Cloud Storage.",
    )
    path: Path = Field(
        description=(
            "Directory of the files; with `kind: s3` and `kind: gcs`, of the temporary copies that text is "
            "taken out of."
        ),
        json_schema_extra=below_data_dir("files"),
    )
    bucket: BucketName | None = Field(
        default=None, description="The bucket; required with `kind: s3` and `kind: gcs`."
    )
    endpoint_url: str | None = Field(
        default=None,
        description="Address of the storage; absent, it is AWS in the region, or Google. Tokens are sent to "
        "Google Cloud Storage by https only.",
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

    service_account_file: Path | None = Field(
        default=None,
        description="Key file (JSON) of the service account with which Google Cloud Storage is accessed; "
        "absent, the one of the machine or pod.",
    )
    anonymous: bool | None = Field(
        default=None,
        description="Access Google Cloud Storage without any account, as an emulator is.",
        json_schema_extra={"default_text": "false"},
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
        if self.kind != "disk" and self.bucket is None:
            raise ValueError(f"bucket must be set with kind {self.kind}")
        for name, kinds in _BELONG.items():
            if self.kind not in kinds and getattr(self, name) is not None:
                raise ValueError(f"{name} does not belong to kind {self.kind}")
        if (self.access_key_id_env is None) != (self.secret_access_key_env is None):
            raise ValueError("access_key_id_env and secret_access_key_env must both be set, or neither")
        if self.session_token_env is not None and self.access_key_id_env is None:
            raise ValueError("session_token_env needs access_key_id_env and secret_access_key_env")
        return self

    @model_validator(mode="after")
    def _account_of_google(self) -> Self:
        if self.anonymous and self.service_account_file is not None:
            raise ValueError("anonymous excludes service_account_file")
        is_plain = self.endpoint_url is not None and self.endpoint_url.startswith("http:")
        if self.kind == "gcs" and is_plain and not self.anonymous:
            raise ValueError("endpoint_url must be https, or anonymous: no token is sent in the clear")
        return self
