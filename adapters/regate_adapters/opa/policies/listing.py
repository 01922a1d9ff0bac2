"""What a policy directory holds: its files, read as they were at one moment, and the list of digests that
says whether these are all of them.

Whoever writes a directory cannot be seen to have finished, unless it carries such a list (`.digests`): one
line a file, as `sha256sum` writes and checks them. Of the files it names only policies are read here. Not
what makes policies of the files; that is `bundle.py`.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

DIGESTS: Final = ".digests"
MANIFEST: Final = ".manifest"
SIGNATURES: Final = ".signatures.json"
MAX_BYTES: Final = 64 * 1024 * 1024
_MAX_FILES: Final = 10_000
_SUFFIXES: Final = (".rego", ".json", ".yaml", ".yml")
_TESTS: Final = "_test.rego"
_PROJECTED: Final = "..data"
"""The link that Kubernetes swaps when a ConfigMap changes; the files beside it only lead through it."""
_LINE: Final = re.compile(r"([0-9a-f]{64}) [ *](?:\./)?(.+)")

Stamp = tuple[int, int, int, int, int]
"""What changes when a file is written or replaced, also by one of the same size and time: the kernel
gives each change a time of its own.
"""
Fingerprint = frozenset[tuple[str, Stamp]]
"""What changes when policies may have; empty where there are none."""


class DirectoryChanged(OSError):
    """The directory was written to while it was read, so what was read may be half of one policy and
    half of another.
    """


class TooLarge(OSError):
    """The directory holds more than policies do."""


def is_policy(name: str) -> bool:
    """Return whether a file of this path within a policy directory is part of the policy: no test,
    nothing hidden but the manifest.
    """
    hidden = any(part.startswith(".") for part in name.split("/"))
    return name == MANIFEST or (name.endswith(_SUFFIXES) and not name.endswith(_TESTS) and not hidden)


def listing(directory: Path) -> dict[str, Stamp]:
    """Return the stamps of the policies, data and schemas in the directory, and of its list of digests, by
    name.

    Raises `OSError` when it is not there, and for a link that leads nowhere: a module that is left out may be
    the one that denies.
    """
    found: dict[str, Stamp] = {}
    for name, status in _files(str(_root(directory)), "", frozenset()):
        found[name] = stamp_of(status)
        if len(found) > _MAX_FILES:
            raise TooLarge(f"it holds more than {_MAX_FILES} files")
    return found


def read_whole(directory: Path) -> tuple[dict[str, Stamp], dict[str, bytes]]:
    """Return the listing and the contents that belong to it. Raises `OSError`: `DirectoryChanged` when
    there was no moment at which it held these.
    """
    root = _root(directory)
    stamps = listing(root)
    if sum(size for _, _, size, _, _ in stamps.values()) > MAX_BYTES:
        raise TooLarge(f"it holds more than {MAX_BYTES} bytes of policies and data")
    contents: dict[str, bytes] = {}
    try:
        for name, stamp in stamps.items():
            with (root / name).open("rb") as file:
                contents[name] = file.read(stamp[2] + 1)
                if stamp_of(os.fstat(file.fileno())) != stamp:
                    raise DirectoryChanged(f"{name} was written meanwhile")
        same = listing(directory) == stamps
    except FileNotFoundError as error:
        raise DirectoryChanged(f"{error.filename} was removed meanwhile") from error
    if not same:
        raise DirectoryChanged("files were added, written or removed meanwhile")
    return stamps, contents


def digest_list(files: Mapping[str, bytes]) -> bytes:
    """Return the list of digests of these files."""
    return "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items())
    ).encode()


def listed_digests(text: bytes) -> dict[str, str]:
    """Return the digests by name. Raises `ValueError` for a line that is none."""
    digests: dict[str, str] = {}
    for row, line in enumerate(text.decode().removesuffix("\n").split("\n"), start=1):
        read = _LINE.fullmatch(line)
        if read is None:
            raise ValueError(f"line {row} is no digest and name")
        digests[read[2]] = read[1]
    return digests


def departure(files: Mapping[str, bytes], text: bytes) -> str | None:
    """Return in what the policies differ from the list; None when they are exactly those that it names."""
    try:
        listed = {name: digest for name, digest in listed_digests(text).items() if is_policy(name)}
    except ValueError as error:
        return str(error)
    for name in sorted(listed.keys() | files.keys()):
        if name not in files:
            return f"{name} is missing"
        if name not in listed:
            return f"{name} is not in the list"
        if hashlib.sha256(files[name]).hexdigest() != listed[name]:
            return f"{name} is another one"
    return None


def stamp_of(status: os.stat_result) -> Stamp:
    """Return the stamp of a file in this state."""
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_dev, status.st_ino


def _root(directory: Path) -> Path:
    projected = directory / _PROJECTED
    return projected.resolve() if projected.is_dir() else directory


def _files(
    folder: str, prefix: str, above: frozenset[tuple[int, int]]
) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files below, links followed, by name; folders that are hidden, or lead back to one
    above, are left out.
    """
    status = os.stat(folder)  # noqa: PTH116 — twice as fast as `Path`, and asked several times a second
    within = above | {(status.st_dev, status.st_ino)}
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        name = prefix + entry.name
        if entry.is_dir():
            status = entry.stat()
            if not entry.name.startswith(".") and (status.st_dev, status.st_ino) not in within:
                yield from _files(entry.path, f"{name}/", within)
        elif name == DIGESTS or is_policy(name):
            status = entry.stat()
            if stat.S_ISREG(status.st_mode):
                yield name, status
