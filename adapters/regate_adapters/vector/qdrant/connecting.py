"""The client of a Qdrant server, as `engine.py` is given it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import httpx
from qdrant_client import AsyncQdrantClient

from regate_adapters.vector.qdrant.engine import PUT_FACTOR

_CONNECTIONS: Final = 64


def client_of(url: str, api_key: str | None, *, timeout_s: float) -> Callable[[], AsyncQdrantClient]:
    """Return what makes a client. It talks HTTP alone, to this address alone whatever the environment says
    of proxies, and asks for no version behind our back.

    The key goes in the header itself: given as `api_key`, an address without TLS would be warned of.
    """
    return lambda: AsyncQdrantClient(
        url=url,
        headers={} if api_key is None else {"api-key": api_key},
        timeout=math.ceil(timeout_s * PUT_FACTOR),
        check_compatibility=False,
        trust_env=False,
        limits=httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS),
    )
