"""Which policy directory a command works on: the one given, else the configured one, else the shipped one; an
overlay laid over it or not.

An overlay is a team's own directory whose files are added to the shipped ones, or replace those of the same
path (docs/extending-policies.md). It is never changed here, and neither is what it is laid over.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import regate_gateway
from regate_adapters.opa.policies.listing import DIGESTS, digest_list, is_policy, listed_digests, read_whole
from regate_orchestrator.errors import ConfigurationError

_NOT_POLICY: Final = ("tests", ".git", "__pycache__")


@dataclass(frozen=True, slots=True)
class Chosen:
    """The policy directory or the bundle, the `opa` that the configuration names, and the kinds of
    vector store that it uses.
    """

    directory: Path
    opa: Path | None
    store_kinds: frozenset[str]


def shipped_policies() -> Path:
    """Return the policy directory that comes with this installation: inside the wheel, or beside the
    sources.
    """
    package = Path(regate_gateway.__file__).parent
    inside, beside = package / "rego", package.parents[1] / "rego"
    return inside if inside.is_dir() else beside


def choose(given: Path | None, config: Path | None) -> Chosen:
    """Return the place given, else the configuration's, else the shipped one. Raises
    `ConfigurationError` for a refused configuration.
    """
    from regate_gateway.config.loading import load_settings

    settings = load_settings(config)
    kinds = frozenset(store.kind for store in settings.vector.stores.values())
    return Chosen(given or settings.opa.bundle or shipped_policies(), settings.opa.binary, kinds)


def sources(given: Path | None, config: Path | None, *, overlay: Path | None = None) -> Chosen:
    """Return the same, for what works on sources; under an overlay the shipped policies, where none are
    given.

    The configured ones hold the overlay already, with what has been taken out of it since. Raises
    `ConfigurationError` when the configuration names a bundle instead of a directory.
    """
    chosen = choose(given, config)
    if overlay is not None and given is None:
        return replace(chosen, directory=shipped_policies())
    if chosen.directory.is_file():
        raise ConfigurationError(
            f"opa.bundle names the bundle {chosen.directory}: say with --policy which directory it was "
            "built from"
        )
    return chosen


def assemble(base: Path, overlay: Path, into: Path) -> None:
    """Put a directory in place that holds the base with the overlay laid over it, tests left out, and a list
    of its digests.

    It is written beside and renamed, so that nobody finds half of it. What an earlier assembly put there is
    replaced; nothing else is, and nothing is touched when it fails. Raises `ConfigurationError`.
    """
    place = into.resolve()
    if place.is_relative_to(overlay.resolve()) or overlay.resolve().is_relative_to(place):
        raise ConfigurationError(f"{into} lies within the overlay, or around it: write it elsewhere")
    try:
        _require_replaceable(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as folder:
            staged = Path(folder, "new")
            _lay(base, overlay, staged, leaving_out=(place, Path(folder)))
            _put(staged, place, aside=Path(folder, "old"))
    except OSError as error:
        raise ConfigurationError(f"{into} cannot be written: {error}") from error


@contextmanager
def with_overlay(base: Path, overlay: Path | None) -> Iterator[Path]:
    """Give a directory that holds the base with the overlay laid over it, for as long as it is used;
    the base itself without an overlay.
    """
    if overlay is None:
        yield base
        return
    with tempfile.TemporaryDirectory(prefix="regate-policy-") as folder:
        merged = Path(folder) / "policy"
        assemble(base, overlay, merged)
        yield merged


def _require_replaceable(place: Path) -> None:
    """Raise `ConfigurationError` unless the directory is new, empty, or of an earlier assembly,
    whatever has become of its files since.
    """
    if place.exists() and not place.is_dir():
        raise ConfigurationError(f"{place} is a file: name a directory")
    held = {path.relative_to(place).as_posix() for path in place.rglob("*") if not path.is_dir()}
    try:
        ours = {DIGESTS, *listed_digests((place / DIGESTS).read_bytes())} if DIGESTS in held else set()
    except ValueError:
        ours = set()
    if held and not ours:
        raise ConfigurationError(
            f"{place} is not empty, and no assembly wrote it: name a new directory, or remove it first"
        )
    if foreign := held - ours:
        raise ConfigurationError(
            f"{place} holds {min(foreign)}, which no assembly wrote: move it elsewhere first"
        )


def _lay(base: Path, overlay: Path, staged: Path, *, leaving_out: tuple[Path, ...]) -> None:
    """Write the base, the overlay over it, and the list of all their files. Raises
    `ConfigurationError` when either changed meanwhile.
    """
    from regate_adapters.opa.policies.source import read_source

    def ignored(folder: str, names: list[str]) -> set[str]:
        left_out = shutil.ignore_patterns(*_NOT_POLICY, "*_test.rego", DIGESTS)(folder, names)
        return left_out | {name for name in names if Path(folder, name).resolve() in leaving_out}

    expected: dict[str, bytes] = {}
    for source, files in ((base, read_source(base).files), (overlay, read_whole(overlay)[1])):
        within = [
            place.relative_to(source.resolve()).as_posix() + "/"
            for place in leaving_out
            if source.resolve() in place.parents
        ]
        expected |= {
            name: content for name, content in _policies(files).items() if not name.startswith(tuple(within))
        }
        shutil.copytree(source, staged, dirs_exist_ok=True, ignore=ignored)
    copied = {
        path.relative_to(staged).as_posix(): path.read_bytes() for path in staged.rglob("*") if path.is_file()
    }
    if _policies(copied) != expected:
        raise ConfigurationError(f"{base} or {overlay} was written to while it was copied: try again")
    (staged / DIGESTS).write_bytes(digest_list(copied))


def _policies(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {
        name: content
        for name, content in files.items()
        if is_policy(name) and not set(_NOT_POLICY) & set(name.split("/"))
    }


def _put(staged: Path, place: Path, *, aside: Path) -> None:
    """Have the new directory take the place of the one that is there, which is whole until it is gone.

    For a moment between the two renames there is none; a gateway goes on with what it has until the new one
    is there. A link that is swapped would leave no such moment, but `opa`, `cp` and whoever mounts the
    directory would find a link where a directory was.
    """
    try:
        if place.exists():
            place.rename(aside)
        staged.rename(place)
    except BaseException:
        if aside.exists() and not place.exists():
            aside.rename(place)
        raise
