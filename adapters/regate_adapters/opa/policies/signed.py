"""A signed bundle file as a managed OPA's policies: loaded under its own signature, by a key that does not
come with it.

OPA verifies the very bundle that it runs, at each load: the files as they are in the given one, with their
signature, and one file more, the gateway's token, which is named to OPA as the only one without. That bundle
is written anew from what was read here, so whoever reads the files here (row schemas, the contract) reads
what OPA verified. The other kind of policies is a directory (`origins.py`).
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, Final

from regate_adapters.opa.acceptance.reading import NotParsed, parsed_by_command
from regate_adapters.opa.policies.listing import Fingerprint, stamp_of
from regate_adapters.opa.policies.origins import Candidate
from regate_adapters.opa.policies.source import BrokenPolicy
from regate_adapters.opa.policies.vetting import require_acceptable
from regate_orchestrator.ports import GUARD_STEPS

_ALGORITHM: Final = "RS256"
_TOKEN: Final = "system/gateway_token/data.json"  # noqa: S105 — the name of a file
_PUBLIC_KEY: Final = re.compile(rb"-----BEGIN (?:RSA )?PUBLIC KEY-----")
_MAX_BYTES: Final = 64 * 1024 * 1024
_MAX_FILES: Final = 10_000
_DEADLINE_SECONDS: Final = 30


def read_bundle(bundle: Path) -> dict[str, bytes]:
    """Return the files of a bundle by name. Raises `BrokenPolicy` for what is none, or could be read
    in two ways.
    """
    files: dict[str, bytes] = {}
    left = _MAX_BYTES
    try:
        with tarfile.open(bundle, "r:gz") as archive:
            for member in archive:
                if member.isdir():
                    continue
                name = member.name.removeprefix("./").removeprefix("/")
                content = archive.extractfile(member) if member.isreg() else None
                if (
                    content is None
                    or name in files
                    or str(PurePosixPath(name)) != name
                    or ".." in PurePosixPath(name).parts
                ):
                    raise BrokenPolicy(
                        f"{bundle.name} is no bundle: {member.name!r} is no plain file, or there twice"
                    )
                left -= member.size
                if left < 0 or len(files) == _MAX_FILES:
                    raise BrokenPolicy(
                        f"{bundle.name} holds more than {_MAX_BYTES} bytes or {_MAX_FILES} files"
                    )
                files[name] = content.read()
    except (OSError, EOFError, tarfile.TarError, ValueError, UnicodeError) as error:
        raise BrokenPolicy(f"{bundle.name} cannot be read as a bundle: {error}") from error
    if not any(name.endswith(".rego") for name in files):
        raise BrokenPolicy(f"{bundle.name} holds no .rego file")
    return files


class SignedBundle:
    """A bundle file and the public key (PEM, RSA) of whoever may sign policies. The key is read once:
    a process knows one key only.
    """

    def __init__(self, bundle: Path, key: Path, *, private: Path) -> None:
        self._bundle = bundle
        self._given_key = key
        self._key = private / "verification.pem"
        self._in_force: Candidate | None = None

    def arguments(self) -> tuple[str, ...]:
        """Return how OPA is told to verify what it loads."""
        return (
            "--signing-alg",
            _ALGORITHM,
            "--verification-key",
            str(self._key),
            "--exclude-files-verify",
            _TOKEN,
        )

    def fingerprint(self) -> Fingerprint:
        """Return what changes when the file is written or replaced."""
        try:
            return frozenset({(self._bundle.name, stamp_of(self._bundle.stat()))})
        except OSError:
            return frozenset()

    def build(
        self,
        target: Path,
        *,
        opa: Path,
        gateway_token: str,
        required: Collection[str],
        guarded: Collection[str] = GUARD_STEPS,
    ) -> Candidate | None:
        """Write to `target` what OPA is to load, and return what it is; None when it is in force
        already. Raises `BrokenPolicy`.
        """
        if not self._key.exists():
            self._read_key()
        seen = self.fingerprint()
        files = read_bundle(self._bundle)
        if _TOKEN in files:
            raise BrokenPolicy(f"{self._bundle.name} holds {_TOKEN}, which is the gateway's own")
        if self._in_force is not None and self._in_force.files == files:
            return None
        _write(target, files | {_TOKEN: json.dumps(gateway_token).encode()})
        with ThreadPoolExecutor(1) as beside:  # OPA takes as long to parse the files as to verify them
            trees = beside.submit(_parsed, files, opa)
            self._verify(target, opa=opa)
            revision = _described(files, self._bundle.name, required)
            require_acceptable(trees.result(), files, guarded=guarded)
        if self._in_force is not None and self._in_force.revision == revision:
            # Records and remembered filters name the revision, so it must name one content.
            raise BrokenPolicy(
                f"{self._bundle.name} is another policy under the revision in force, {revision}: build "
                "it with --revision"
            )
        return Candidate(revision, files, seen, is_whole=True)

    def accept(self, candidate: Candidate) -> None:
        """Compare with this one from now on."""
        self._in_force = candidate

    def _read_key(self) -> None:
        try:
            key = self._given_key.read_bytes()
        except OSError as error:
            raise BrokenPolicy(f"opa.verification_key cannot be read: {error}") from error
        if _PUBLIC_KEY.search(key) is None:  # OPA would take a private key as well
            raise BrokenPolicy(
                "opa.verification_key must be a file with an RSA public key in PEM (-----BEGIN PUBLIC "
                "KEY-----)"
            )
        self._key.write_bytes(key)

    def _verify(self, built: Path, *, opa: Path) -> None:
        """Have OPA verify and compile what it is to load, before it takes the place of what it runs."""
        with tempfile.TemporaryDirectory(prefix="verify-", dir=built.parent) as folder:
            command = [
                str(opa),
                "build",
                "--bundle",
                built.name,
                *self.arguments(),
                "--output",
                str(Path(folder, "verified.tar.gz")),
            ]
            try:
                done = subprocess.run(
                    command,
                    cwd=built.parent,
                    capture_output=True,
                    check=False,
                    timeout=_DEADLINE_SECONDS,
                    env={},
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise BrokenPolicy(f"opa build did not run: {error}") from error
        if done.returncode != 0:
            words = (done.stderr or done.stdout).decode(errors="replace").strip()
            cause = words.removeprefix("error: load error: ").removeprefix(f"bundle {built.name}: ")
            raise BrokenPolicy(f"{self._bundle.name} is refused: {cause}")


def _parsed(files: Mapping[str, bytes], opa: Path) -> dict[str, Any]:
    texts = {
        name: content.decode(errors="replace") for name, content in files.items() if name.endswith(".rego")
    }
    try:
        return parsed_by_command(opa, texts)
    except NotParsed as error:
        raise BrokenPolicy(str(error)) from error


def _described(files: Mapping[str, bytes], name: str, required: Collection[str]) -> str:
    """Return the revision that a bundle made by `bundle.build_bundle` says of itself, after comparing
    its rules with the contract.
    """
    try:
        revision = json.loads(files[".manifest"])["revision"]
        meta: Any = json.loads(files["data.json"])["regate"]["meta"]
        same, places = meta["revision"] == revision, meta["places"]
        lacking = sorted(rule for rule in required if f"data.{rule.replace('/', '.')}" not in places)
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenPolicy(
            f"{name} was not built by `regate policy build`: it does not describe its rules"
        ) from error
    if not same or not revision or not isinstance(revision, str):
        raise BrokenPolicy(f"{name} does not say one revision: build it with `regate policy build`")
    if lacking:
        raise BrokenPolicy(f"{name} lacks {', '.join(lacking)}, for which OPA answers as for a denial")
    return revision


def _write(target: Path, files: Mapping[str, bytes]) -> None:
    target.touch(mode=0o600)
    with tarfile.open(target, "w:gz") as bundle:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"/{name}")
            entry.size = len(content)
            bundle.addfile(entry, io.BytesIO(content))
