"""Where a managed OPA's policies come from: a directory, which is checked and built here, or a bundle that somebody signed (`signed.py`).

Not the running of OPA; that is `process.py`, the counterpart.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from regate_adapters.opa.bundle import build_bundle, fingerprint, read_source


class PolicyOrigin(Protocol):
    """Policies that may change at any time."""

    @property
    def directory(self) -> Path:
        """Return a directory that holds the policies and their schemas; of one that unpacks, from the first `build` on."""
        ...

    def arguments(self) -> tuple[str, ...]:
        """Return what OPA must be told, beside the name of the bundle that `build` wrote, to load it."""
        ...

    def fingerprint(self) -> frozenset[tuple[str, int, int]]:
        """Return what changes when the policies may have: cheap enough to be asked twice a second."""
        ...

    def build(self, target: Path, *, opa: Path, gateway_token: str, required: Collection[str]) -> str | None:
        """Write to `target` the bundle that OPA is to load, and return its revision; None when the last one built is still right.

        The token must be put where `system.authz` reads it. Must raise `BrokenPolicy` for policies that may not serve, among them those
        without a required rule, and then the last one built stays right. May leave anything at `target` when it raises or returns None.
        """
        ...


class PolicyDirectory:
    """A directory of policies."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._revision: str | None = None

    def arguments(self) -> tuple[str, ...]:
        """Return nothing: OPA loads what was built here as it is."""
        return ()

    def fingerprint(self) -> frozenset[tuple[str, int, int]]:
        """Return names, times and sizes of the files."""
        return fingerprint(self.directory)

    def build(self, target: Path, *, opa: Path, gateway_token: str, required: Collection[str]) -> str | None:
        """Write the bundle unless the content is that of the last one. See `PolicyOrigin.build`."""
        source = read_source(self.directory)
        if source.revision == self._revision:
            return None
        build_bundle(source, target, opa=opa, gateway_token=gateway_token, required=required)
        self._revision = source.revision
        return source.revision
