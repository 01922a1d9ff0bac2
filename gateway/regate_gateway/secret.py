"""`Secret`: a value that shows itself only when asked to. Not where secrets come from (`authentication.py`, `settings.py` name the places)."""

from __future__ import annotations

import hmac
import os
import stat
from pathlib import Path
from typing import Final, NoReturn

from regate_orchestrator.errors import ConfigurationError

_MOST_BYTES: Final = 65_536


class Secret:
    """A secret string. Its `repr` and `str` are `***`, it cannot be pickled, and only `reveal` returns the value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value. The result must go straight to where it is used, and never into a message, a log or a record."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written anywhere")


def secret_from_environment(name: str, *, setting: str) -> Secret:
    """Return the secret in this environment variable. Raises `ConfigurationError` when it is unset or empty."""
    value = os.environ.get(name, "")
    if not value:
        raise ConfigurationError(f"{setting}: the environment variable {name} is not set")
    return Secret(value)


def secret_from_file(path: Path, *, setting: str) -> Secret:
    """Return the secret in this file, without its last line end. Raises `ConfigurationError` when it is unreadable, or readable by everybody."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IROTH | stat.S_IWOTH):
                raise ConfigurationError(f"{setting}: {path} is open to every user of this machine; make it private (chmod 600)")
            value = file.read(_MOST_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{setting}: {path} cannot be read: {type(error).__name__}") from error
    return Secret(value.removesuffix("\n").removesuffix("\r"))
