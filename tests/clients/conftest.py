"""One gateway in a process of its own for all client tests: the clients are unmodified, and everything
goes over real HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.clients.serving import Served, served


@pytest.fixture(scope="session")
def gateway() -> Iterator[Served]:
    """A gateway before the rule-driven model; every test shares it, so none may rest on what is absent
    from a list.
    """
    with served() as running:
        yield running
