"""A real S3 server, one for all tests here; each test has a bucket of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from regate_adapters.testing.s3 import S3Server, running_s3


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with running_s3() as server:
        yield server
