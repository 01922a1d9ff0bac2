"""Names to addresses, by the system's resolver. Asked once for each connection: what is checked is what is
connected to.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Final, Protocol

from regate_adapters.egress.addresses import Address

_THREADS: Final = 8


class Resolver(Protocol):
    """Finds the addresses of a name."""

    async def addresses(self, host: str, port: int) -> Sequence[Address]:
        """Return all addresses, in the order in which they are to be tried. Raises `OSError`."""
        ...


class SystemResolver:
    """Asks the system, in threads of its own: a name server that is slow keeps nobody else's threads."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="egress-names")

    async def addresses(self, host: str, port: int) -> Sequence[Address]:
        """Return all addresses of the name. Raises `OSError`."""
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(ip_address(str(place[0])) for *_, place in found))
