"""Ports for servers that cannot be asked to take any free one."""

from __future__ import annotations

import random
import socket
from typing import Final

_RANGE: Final = (20_000, 32_000)
"""Below those that systems give to outgoing connections: of these, one could take the port before the
server does.
"""
_TRIES: Final = 100


def free_port() -> int:
    """Return a loopback port that nobody listens on at this moment. Raises `OSError` when none is found."""
    for _ in range(_TRIES):
        port = random.SystemRandom().randrange(*_RANGE)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no free port was found")
