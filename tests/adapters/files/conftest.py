"""A real S3 server and an emulator of Google Cloud Storage, one for all tests here; each test has a bucket of
its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.gcs_emulator import GcsEmulator, command, running_gcs_emulator

from regate_adapters.testing.s3 import S3Server, running_s3


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with running_s3() as server:
        yield server


@pytest.fixture(scope="session")
def gcs_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcsEmulator]:
    if command() is None:
        pytest.skip("no fake-gcs-server: `make gcs` compiles it, which takes minutes")
    with running_gcs_emulator(tmp_path_factory.mktemp("gcs")) as server:
        yield server
