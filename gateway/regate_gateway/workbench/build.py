"""`regate policy build`: a policy directory as a bundle for an OPA that Regate does not run, with a revision
that says where it comes from.

What the bundle holds beside the policies, and why, is told in `regate_adapters.opa.policies.bundle`. Not what
checks policies; that is `workbench/check/checks.py`.
"""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from regate_adapters.opa.policies.bundle import build_bundle
from regate_adapters.opa.policies.source import read_source
from regate_gateway.workbench.check.entrypoints import required_rules
from regate_orchestrator.errors import ConfigurationError

_DEADLINE_SECONDS: Final = 30
# Nothing in it is secret: the gateway's token is put only into bundles that never leave the machine
_FOR_OPA: Final = 0o644


@dataclass(frozen=True, slots=True)
class Built:
    """A bundle that was written. `digest` is the SHA-256 of the file, `files` counts what is in it."""

    revision: str
    files: int
    size: int
    digest: str
    signed: bool


def build(directory: Path, output: Path, *, opa: Path, revision: str, signing_key: Path | None) -> Built:
    """Put the bundle in place, at once, and return what it is. Raises `BrokenPolicy` with OPA's words,
    and leaves an earlier one as it was.
    """
    source = read_source(directory)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as folder:
        staged = Path(folder, output.name)
        build_bundle(
            source,
            staged,
            opa=opa,
            revision=revision or source.revision,
            signing_key=signing_key,
            required=required_rules(),
        )
        staged.chmod(_FOR_OPA)
        staged.replace(output)
    content = output.read_bytes()
    with tarfile.open(output) as archive:
        files = sum(member.isfile() for member in archive)
    return Built(
        revision or source.revision,
        files,
        len(content),
        hashlib.sha256(content).hexdigest(),
        signing_key is not None,
    )


def commit_revision(directory: Path, *, overlaid: bool) -> str | None:
    """Return the git commit that the directory is at, marked `-dirty` when the directory differs from it;
    None outside a repository.

    An overlay's commit does not say what it was laid over, so Regate's version is added to it.
    """
    commit = _git(directory, "rev-parse", "--short=12", "HEAD")
    tracked = _git(directory, "ls-files", "--", ".")
    if not commit or not tracked:
        return None
    dirty = _git(directory, "status", "--porcelain", "--", ".")
    shipped = f"+regate-{version('regate')}" if overlaid else ""
    return f"{commit}{shipped}{'' if dirty == '' else '-dirty'}"


def _git(directory: Path, *arguments: str) -> str | None:
    """Return what git says; None when there is no git, or it refuses."""
    command = ["git", "--no-optional-locks", "-C", str(directory), *arguments]
    try:
        # Our own arguments
        done = subprocess.run(command, capture_output=True, check=False, timeout=_DEADLINE_SECONDS)
    except FileNotFoundError:
        return None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError(f"git {arguments[0]} did not run: {error}; give --revision") from error
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None
