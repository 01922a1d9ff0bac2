"""Connections to Redis, as the adapters on it need them. What is asked of it is theirs: `quota/shared.py` and
`notices/redis.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from regate_orchestrator.errors import ConfigurationError

FAILURES: Final = (RedisError, OSError, TimeoutError, RuntimeError)
"""What a call of Redis may raise when Redis cannot serve it. A `RuntimeError` is uvloop's, of a connection
that was reset while it lay in the pool: the client writes to it unseen.
"""
_SCHEMES: Final = ("redis", "rediss", "unix")
_MAX_CONNECTIONS: Final = 64


def check_url(url: str) -> None:
    """Raise `ConfigurationError` for an address that cannot be one of Redis. Nothing is connected to."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or not (parts.path if parts.scheme == "unix" else parts.hostname):
        raise ConfigurationError("not an address of Redis, such as redis://host:6379/0")
    if parts.query or parts.fragment:
        raise ConfigurationError("must have no options")


@asynccontextmanager
async def connected(url: str, *, deadline_s: float | None) -> AsyncIterator[Redis]:
    """Yield a client with a pool of connections, which are opened when they are needed.

    No call is tried again: whether one that failed was carried out is not known. Raises `ConfigurationError`
    for an address that is none.
    """
    check_url(url)
    pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
        url,
        timeout=deadline_s,
        socket_connect_timeout=deadline_s,
        socket_timeout=deadline_s,
        max_connections=_MAX_CONNECTIONS,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )
    client: Redis = Redis.from_pool(pool)
    try:
        yield client
    finally:
        await client.aclose()


async def let_go_of_idle(client: Redis, after: BaseException, *, within_s: float) -> None:
    """Close the connections that lie idle, if the call failed since its own was lost. Must be called after
    each failure: what ended one has mostly ended the others too, and each would fail the call that takes it.

    An answer that is late says nothing of the others, and new connections would be later still.
    """
    if isinstance(after, TimeoutError | RedisTimeout):
        return
    with suppress(*FAILURES):
        async with asyncio.timeout(within_s):
            await client.connection_pool.disconnect(inuse_connections=False)


async def examine(url: str) -> str:
    """Return in words what is there, for its operator. Raises `ConfigurationError` when it cannot serve."""
    async with connected(url, deadline_s=5.0) as client:
        try:
            found = await client.info("server")
        except FAILURES as error:
            raise ConfigurationError(f"Redis does not serve: {cause(error)}") from error
    return f"Redis {found.get('redis_version', 'of an unknown version')}"


def cause(error: BaseException) -> str:
    """Return what happened, for the log: the kind of the error, and Redis's own words where it said any."""
    said = str(error).splitlines()[0][:200] if str(error) else ""
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
