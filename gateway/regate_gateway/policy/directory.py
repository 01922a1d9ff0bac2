"""Which policy directory a command works on: the one given, else the configured one, else the shipped one; an overlay laid over it or not.

An overlay is a team's own directory whose files are added to the shipped ones, or replace those of the same path (docs/policies.md,
"Extend"). It is never changed here, and neither is what it is laid over.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import regate_gateway
from regate_orchestrator.errors import ConfigurationError

_NOT_POLICY: Final = ("tests", ".git", "__pycache__")


@dataclass(frozen=True, slots=True)
class Chosen:
    """The policy directory or the bundle, the `opa` that the configuration names, and the kinds of vector store that it uses."""

    directory: Path
    opa: Path | None
    store_kinds: frozenset[str]


def shipped_policies() -> Path:
    """Return the policy directory that comes with this installation: inside the wheel, or beside the sources."""
    package = Path(regate_gateway.__file__).parent
    inside, beside = package / "rego", package.parents[1] / "rego"
    return inside if inside.is_dir() else beside


def choose(given: Path | None, config: Path | None) -> Chosen:
    """Return the place given, else the configuration's, else the shipped one. Raises `ConfigurationError` for a refused configuration."""
    from regate_gateway.configuration import load_settings

    settings = load_settings(config)
    kinds = frozenset(store.kind for store in settings.vector.stores.values())
    return Chosen(given or settings.opa.bundle or shipped_policies(), settings.opa.binary, kinds)


def sources(given: Path | None, config: Path | None) -> Chosen:
    """Return the same, for what works on sources. Raises `ConfigurationError` when the configuration names a bundle instead of a directory."""
    chosen = choose(given, config)
    if chosen.directory.is_file():
        raise ConfigurationError(f"opa.bundle names the bundle {chosen.directory}: say with --policy which directory it was built from")
    return chosen


def assemble(base: Path, overlay: Path, into: Path) -> None:
    """Write to a new or empty directory the base with the overlay laid over it, tests left out.

    Raises `ConfigurationError` when the directory holds anything, or lies within what is copied.
    """
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise ConfigurationError(f"{into} is not empty: name a new directory, or remove it first")
    if any(into.resolve().is_relative_to(source.resolve()) for source in (base, overlay)):
        raise ConfigurationError(f"{into} lies within the policies that would be copied to it")
    for source in (base, overlay):
        shutil.copytree(source, into, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*_NOT_POLICY, "*_test.rego"))


@contextmanager
def with_overlay(base: Path, overlay: Path | None) -> Iterator[Path]:
    """Give a directory that holds the base with the overlay laid over it, for as long as it is used; the base itself without an overlay."""
    if overlay is None:
        yield base
        return
    with tempfile.TemporaryDirectory(prefix="regate-policy-") as folder:
        merged = Path(folder) / "policy"
        assemble(base, overlay, merged)
        yield merged
