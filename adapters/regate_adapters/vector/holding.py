"""A directory that one process alone may use: what embedded engines have in common."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from regate_orchestrator.errors import ConfigurationError


def hold(path: Path, engine: str) -> int:
    """Return a descriptor that locks the directory for this process until it is closed. Raises
    `ConfigurationError`, with the engine's name, when another process holds it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path / "regate.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"vector: the directory {path} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise ConfigurationError(
            f"vector: another process uses {path}. {engine} serves one process: run one worker, "
            "or give each its own path."
        ) from error
    return descriptor
