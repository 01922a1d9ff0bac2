"""Where a managed OPA's policies come from: a directory, which is checked and built here, or a bundle that
somebody signed (`signed.py`).

Not the running of OPA, nor for how long policies must have been still before they are in force; that is
`opa/server/process.py`, the counterpart.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from regate_adapters.opa.policies.bundle import build_bundle
from regate_adapters.opa.policies.listing import DIGESTS, Fingerprint
from regate_adapters.opa.policies.source import (
    BrokenPolicy,
    IncompletePolicy,
    PolicySource,
    fingerprint,
    read_source,
)
from regate_orchestrator.ports import GUARD_STEPS


@dataclass(frozen=True, slots=True)
class Candidate:
    """Policies that were built and may serve. `seen` is the fingerprint of what they were made of.

    `is_whole` says that a list of digests or a signature shows that this is all of them. `gone` are files of
    the policies in force that are not there any more, and that nothing says are meant to be gone.
    """

    revision: str
    files: Mapping[str, bytes]
    seen: Fingerprint
    is_whole: bool
    gone: tuple[str, ...] = ()


class PolicyOrigin(Protocol):
    """Policies that may change at any time."""

    def arguments(self) -> tuple[str, ...]:
        """Return what OPA must be told, beside the name of the bundle that `build` wrote, to load it."""
        ...

    def fingerprint(self) -> Fingerprint:
        """Return what changes when the policies may have: cheap enough to be asked several times a second."""
        ...

    def build(
        self,
        target: Path,
        *,
        opa: Path,
        gateway_token: str,
        required: Collection[str],
        guarded: Collection[str] = GUARD_STEPS,
    ) -> Candidate | None:
        """Write to `target` the bundle that OPA is to load, and return what it is; None when that is in force
        already.

        The token must be put where `system.authz` reads it. Must raise `BrokenPolicy` for policies that may
        not serve, among them those without a required rule and those that want a guard where there is none
        (`guarded` are the steps that have one), and `IncompletePolicy` for those of which a part
        is not there. May leave anything at `target` when it raises or returns None.
        """
        ...

    def accept(self, candidate: Candidate) -> None:
        """Take it that this candidate is in force now."""
        ...


class PolicyDirectory:
    """A directory of policies. One that came with a list of its files is not taken without one again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._in_force: Candidate | None = None
        self._listed = False

    def arguments(self) -> tuple[str, ...]:
        """Return nothing: OPA loads what was built here as it is."""
        return ()

    def fingerprint(self) -> Fingerprint:
        """Return names, times and sizes of the files."""
        return fingerprint(self._directory)

    def build(
        self,
        target: Path,
        *,
        opa: Path,
        gateway_token: str,
        required: Collection[str],
        guarded: Collection[str] = GUARD_STEPS,
    ) -> Candidate | None:
        """Write the bundle unless the content is that in force. See `PolicyOrigin.build`."""
        source = read_source(self._directory)
        if self._listed and not source.listed:
            raise IncompletePolicy(
                f"{self._directory} has no {DIGESTS} any more: write one, or restart to take the "
                "policies without it"
            )
        self._listed = source.listed
        if self._in_force is not None and self._in_force.revision == source.revision:
            return None
        gone = self._gone(source)
        try:
            build_bundle(
                source, target, opa=opa, gateway_token=gateway_token, required=required, guarded=guarded
            )
        except BrokenPolicy as error:
            if gone:
                raise IncompletePolicy(f"{error.message} ({gone[0]} is gone)") from error
            raise
        return Candidate(source.revision, source.files, source.seen, source.listed, gone)

    def accept(self, candidate: Candidate) -> None:
        """Compare with this one from now on."""
        self._in_force = candidate

    def _gone(self, source: PolicySource) -> tuple[str, ...]:
        if self._in_force is None or source.listed:
            return ()
        return tuple(sorted(self._in_force.files.keys() - source.files.keys()))
