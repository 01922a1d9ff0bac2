"""What all tests may use: real PostgreSQL servers, each started once. Random examples end by their
number, never by a clock.
"""

from __future__ import annotations

import gc
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from tests.postgres import Postgres, running_postgres
from tests.redis_server import RedisServer, running_redis

# On top of hypothesis's own default, which in CI draws the same examples each time. No database: a checkout
# may be read-only.
settings.register_profile(
    "regate",
    settings(),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("regate")

# A shell has what it runs in the background ignore interrupts, and so has that what it starts: the programs
# that tests start must heed them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_MAX_PLACE: Final = 24
"""How long the path of the directory for temporary files may be: tests listen on sockets in theirs,
whose paths end at 104 bytes.
"""

if len(tempfile.gettempdir()) > _MAX_PLACE:
    tempfile.tempdir = "/tmp"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fleet",
        action="store_true",
        help="Have the tests of the API ask two gateways of two workers each, on one PostgreSQL and Redis.",
    )
    parser.addoption(
        "--engines",
        action="store_true",
        help="Run the tests on servers of vector engines, too, which take long (`make engines`).",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests on servers of vector engines, unless they are asked for."""
    if not config.getoption("--engines"):
        skip = pytest.mark.skip(reason="it needs a server of a vector engine: make engines")
        for item in items:
            if item.get_closest_marker("engines"):
                item.add_marker(skip)


def pytest_collection_finish() -> None:
    """Take all that was imported and collected for what stays: who collects garbage in the middle of a test
    need not walk through a million objects that are none.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def postgres_of_version() -> Iterator[Callable[[int], Postgres]]:
    """The server of a major version, which runs from its first use until the last test."""
    servers: dict[int, Postgres] = {}
    with ExitStack() as stack:

        def server(version: int) -> Postgres:
            if version not in servers:
                servers[version] = stack.enter_context(running_postgres(version))
            return servers[version]

        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A server for whoever does not stop it: each test has a prefix of its own there."""
    with running_redis() as server:
        yield server


@pytest.fixture(scope="session")
def postgres(postgres_of_version: Callable[[int], Postgres]) -> Postgres:
    return postgres_of_version(18)
