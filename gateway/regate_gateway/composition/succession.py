"""Which gateway used this data directory before: one that has ended somehow, since it held the directory.

Not whether it is present (`Membership`): its presence may last a minute longer than itself.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from regate_orchestrator.values import GatewayId

_ID: Final = re.compile(rb"gw_[0-9a-f]{8,128}")
_MOST: Final = 200


class Succession:
    """The directory, held until the end of this process. Without it nobody is known to have gone."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    @property
    def is_held(self) -> bool:
        """Whether this process holds the directory, so that no gateway that uses it runs."""
        return self._descriptor is not None

    @property
    def before(self) -> GatewayId | None:
        """Return who held the directory before and has ended; None where nobody is known to have."""
        if self._descriptor is None:
            return None
        written = os.pread(self._descriptor, _MOST, 0)
        return GatewayId(written.decode("ascii")) if _ID.fullmatch(written) else None

    def take(self, gateway: GatewayId) -> None:
        """Write down that this gateway holds the directory. Must come after its predecessor was settled."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, gateway.encode("ascii"), 0)


@contextmanager
def succession(data_dir: Path, worker: int | None = None) -> Iterator[Succession]:
    """Hold the directory until the end, a worker its place among others in it, if nobody else does and it can
    be had.
    """
    file = "gateway.lock" if worker is None else f"worker-{worker}.lock"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:  # where it matters, others say so
        yield Succession(None)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        yield Succession(None)
        return
    try:
        yield Succession(descriptor)
    finally:
        os.close(descriptor)
