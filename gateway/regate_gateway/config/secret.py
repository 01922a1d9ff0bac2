"""`Secret`: a value that shows itself only when asked to. Not where secrets come from
(`auth/authentication.py`, `settings.py` name the places).
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

from regate_orchestrator.errors import ConfigurationError

MIN_SECRET_BYTES: Final = 32
_MAX_BYTES: Final = 65_536


class Secret:
    """A secret string. Its `repr` and `str` are `***`, it cannot be pickled, and only `reveal` returns
    the value.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value. The result must go straight to where it is used, and never into a message,
        a log or a record.
        """
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
    """Return the secret in this environment variable. Raises `ConfigurationError` when it is unset
    or empty.
    """
    value = os.environ.get(name, "")
    if not value:
        raise ConfigurationError(f"{setting}: the environment variable {name} is not set")
    return Secret(value)


def header_secret(secret: Secret, *, setting: str) -> Secret:
    """Return the secret, which is sent in a header. Raises `ConfigurationError` for one that no header holds,
    such as one that was kept with the end of its line.
    """
    value = secret.reveal()
    if not (value.isascii() and value.isprintable() and value == value.strip()):
        raise ConfigurationError(
            f"{setting}: it must be plain ASCII in one line, without a line end and without blanks around it"
        )
    return secret


def header_secret_from_environment(name: str, *, setting: str) -> Secret:
    """Return the secret in this environment variable, which is sent in a header. Raises
    `ConfigurationError` when it is unset, empty, or nothing that a header holds.
    """
    return header_secret(secret_from_environment(name, setting=setting), setting=setting)


def secret_from_file(path: Path, *, setting: str) -> Secret:
    """Return the secret in this file, without its last line end. Raises `ConfigurationError` when it
    is unreadable, or readable by everybody.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IROTH | stat.S_IWOTH):
                raise ConfigurationError(
                    f"{setting}: {path} is open to every user of this machine; make it private (chmod 600)"
                )
            value = file.read(_MAX_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{setting}: {path} cannot be read: {type(error).__name__}") from error
    return Secret(value.removesuffix("\n").removesuffix("\r"))


def own_secret(path: Path, *, setting: str) -> Secret:
    """Return the secret in the file, after making it, readable by its owner only, when it is not there
    yet. Raises `ConfigurationError`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _write_once(path, secrets.token_hex(32))
        if path.stat().st_mode & 0o077:
            raise ConfigurationError(
                f"{path} is open to other users; delete it (a new one is made) or chmod 600 it"
            )
    except OSError as error:
        raise ConfigurationError(f"{setting}: the secret {path} cannot be made: {error.strerror}") from error
    secret = secret_from_file(path, setting=setting)
    if len(secret.reveal().encode()) < MIN_SECRET_BYTES:
        raise ConfigurationError(
            f"{path} holds fewer than {MIN_SECRET_BYTES} bytes; delete it (a new one is made)"
        )
    return secret


def _write_once(path: Path, text: str) -> None:
    """Make the file whole or not at all: of two processes that start at once, both end up with the
    same secret.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text + "\n")
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
