"""Policies as they come: what a policy directory held at one moment, and what is wrong with policies that
cannot serve.

Not what makes sure of them (`vetting.py`), nor what OPA loads (`bundle.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from regate_adapters.opa.policies.listing import (
    DIGESTS,
    DirectoryChanged,
    Fingerprint,
    departure,
    listing,
    read_whole,
)
from regate_orchestrator.errors import ConfigurationError


class BrokenPolicy(ConfigurationError):
    """The policy directory makes no bundle; the message is OPA's own and names file and line."""


class IncompletePolicy(BrokenPolicy):
    """Not all of the policy is there: somebody is still writing it, or did not finish."""


@dataclass(frozen=True, slots=True)
class PolicySource:
    """What a policy directory held at one moment: file contents by relative path, and whether a list
    of digests says that these are all.
    """

    files: Mapping[str, bytes]
    seen: Fingerprint = frozenset()
    listed: bool = False

    @property
    def digest(self) -> str:
        """Return the digest of names and contents: equal exactly when the policies are."""
        digest = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            digest.update(f"{len(name.encode())} {len(content)} {name}".encode())
            digest.update(content)
        return digest.hexdigest()

    @property
    def revision(self) -> str:
        """Return so much of the digest as tells policies apart."""
        return self.digest[:16]


def read_source(directory: Path) -> PolicySource:
    """Return the policies, data and schemas in the directory, as they were at one moment; tests are left out.

    Raises `IncompletePolicy` while there is no such moment, when there are no policies, or others than the
    directory's list of digests names; `BrokenPolicy` when they cannot be read.
    """
    try:
        seen, files = read_whole(directory)
    except (DirectoryChanged, FileNotFoundError, NotADirectoryError) as error:
        raise IncompletePolicy(f"{directory} cannot be read: {error}") from error
    except OSError as error:
        raise BrokenPolicy(f"{directory} cannot be read: {error}") from error
    digests = files.pop(DIGESTS, None)
    if digests is not None and (fault := departure(files, digests)) is not None:
        raise IncompletePolicy(f"{directory} is not what its {DIGESTS} lists: {fault}")
    if not any(name.endswith(".rego") for name in files):
        raise IncompletePolicy(f"{directory} holds no .rego file")
    return PolicySource(files, seen=frozenset(seen.items()), listed=digests is not None)


def fingerprint(directory: Path) -> Fingerprint:
    """Return what changes when a file in the directory does, empty without one: cheap enough to be
    asked several times a second.
    """
    try:
        return frozenset(listing(directory).items())
    except OSError:
        return frozenset()
