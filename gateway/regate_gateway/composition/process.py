"""What a gateway's process asks of the system before it serves: as many open files as it may have, and
memory given back.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import sys
from types import FrameType
from typing import Final

_log = logging.getLogger("regate.gateway")

_LARGE_BYTES: Final = 256 * 1024
_MALLOPT_MMAP_THRESHOLD: Final = -3
_OTHER_FILES: Final = 400
"""Files a gateway has open beside its clients' connections: upstreams, OPA, databases, the vector
engine's indexes.
"""


def prepare(*, most_connections: int) -> None:
    """Raise the limit on open files as far as this user may, warn when it is low all the same, and have large
    memory given back when freed.

    From then on a SIGHUP ends nothing, but for that of a terminal that is closed, which ends the process in
    order, as SIGTERM does.
    """
    signal.signal(signal.SIGHUP, _end_in_order if sys.stderr.isatty() else signal.SIG_IGN)
    allowed = _raise_open_files()
    if allowed < most_connections + _OTHER_FILES:
        _log.warning(
            "open_files_few",
            extra={
                "limit": allowed,
                "detail": f"listen.max_connections is {most_connections}, and others need some too",
            },
        )
    _give_back_large_memory()


def _end_in_order(_signal: int, _frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGTERM)


def _raise_open_files() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return _counted(soft)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # some systems name a hard limit that they do not grant
        return _counted(soft)
    return _counted(hard)


def _counted(limit: int) -> int:
    return 2**63 if limit == resource.RLIM_INFINITY else limit


def _give_back_large_memory() -> None:
    """Have glibc map what is large, so that it goes back to the system when it is freed.

    By itself it does so until the first such is freed, and from then on keeps pieces up to that size in its
    heaps. Bodies of 4 MB, six at once, left 70 to 100 MB there. Other C libraries are left as they are.
    """
    try:
        if not (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
            return
        ctypes.CDLL(None).mallopt(_MALLOPT_MMAP_THRESHOLD, _LARGE_BYTES)
    except (ValueError, OSError, AttributeError):
        return
