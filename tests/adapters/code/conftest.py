"""A real kernel gateway, and kernels of it over the guard of egress."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.adapters.egress.conftest import engine
from tests.kernels import KernelGateway, kernel_gateway

__all__ = ["engine"]


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory: Any) -> Iterator[KernelGateway]:
    with kernel_gateway(tmp_path_factory.mktemp("kernels")) as running:
        yield running
