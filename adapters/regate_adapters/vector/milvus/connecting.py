"""The client of a Milvus server, as `engine.py` is given it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from pymilvus import MilvusClient

_SILENT: Final = logging.CRITICAL + 1

# It logs what fails with the server's own words and a traceback, which may quote chunks.
for _name in ("pymilvus", "pymilvus.milvus_client"):
    logging.getLogger(_name).setLevel(_SILENT)


def client_of(url: str, token: str | None, *, database: str) -> Callable[[float], MilvusClient]:
    """Return what makes a client, on a connection of its own, within the seconds that it is given."""
    return lambda within_s: MilvusClient(
        uri=url, token=token or "", db_name=database, timeout=within_s, dedicated=True
    )
