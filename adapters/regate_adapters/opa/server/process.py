"""A managed OPA: our own child process on a private unix socket, always running, always with the policies of
a watched place.

OPA reads the policies from a bundle that `opa/policies/origins.py` makes of a directory or of a signed
bundle, and that is replaced when those change; a broken change leaves the old bundle in force and is told in
`problem`. The socket, the bundle and the token that OPA asks for live in a directory only this user can
enter. Not a client of OPA; that is `opa/engine.py`. When a change is whole is told by
`opa/policies/watching.py`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from regate_adapters.opa.client import OpaAddress
from regate_adapters.opa.engine import OpaEngine
from regate_adapters.opa.policies.listing import is_policy
from regate_adapters.opa.policies.origins import Candidate, PolicyDirectory, PolicyOrigin
from regate_adapters.opa.policies.signed import SignedBundle
from regate_adapters.opa.policies.source import BrokenPolicy
from regate_adapters.opa.policies.watching import POLL_SECONDS, Found, WatchedPolicies
from regate_adapters.opa.server import parent_death
from regate_adapters.opa.server.child import Child, start_child
from regate_orchestrator.errors import ConfigurationError, PolicyUnavailable
from regate_orchestrator.ports import GUARD_STEPS

_log = logging.getLogger("regate.opa")

_PROBE_SECONDS: Final = 0.01
_START_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 1.0
_RELOAD_SECONDS: Final = 5.0
"""How long OPA may take to load policies that it was given, on a busy machine; then it is restarted,
which refuses what is asked meanwhile.
"""
_STOP_SECONDS: Final = 2.0
_STEADY_SECONDS: Final = 5.0
_MAX_DELAY_SECONDS: Final = 5.0
_MAX_SOCKET_PATH: Final = 100  # the kernel's limit is 108 bytes, 104 on macOS


class ManagedOpa:
    """An OPA process for one policy directory, or with a verification key for one signed bundle. Enter it,
    then run `watch` in a task group.

    Entering raises `ConfigurationError` (`BrokenPolicy` for the policies) when OPA cannot be started with
    what is there now. `required` are the rules that the policies must have, and `guarded` the steps at which
    they may want something of guards. Leaving ends the process. Should we die without leaving, the kernel
    ends it (on Linux).
    """

    def __init__(
        self,
        policies: Path,
        *,
        opa: Path,
        required: Collection[str] = (),
        guarded: Collection[str] = GUARD_STEPS,
        verification_key: Path | None = None,
    ) -> None:
        self._opa = opa
        self._private = _private_path()
        self._bundle = self._private / "active" / "policy.tar.gz"
        self._built = self._private / "built.tar.gz"
        self._origin: PolicyOrigin = (
            PolicyDirectory(policies)
            if verification_key is None
            else SignedBundle(policies, verification_key, private=self._private)
        )
        self._token = secrets.token_urlsafe(32)
        self._child: Child | None = None
        self._started = 0.0
        build = partial(
            self._origin.build,
            self._built,
            opa=opa,
            gateway_token=self._token,
            required=frozenset(required),
            guarded=frozenset(guarded),
        )
        self._policies = WatchedPolicies(self._origin.fingerprint, build)
        self.address = OpaAddress("http://opa", socket=self._private / "opa.sock", token=self._token)
        self._probe = OpaEngine(self.address, schemas={}, deadline_s=_ANSWER_SECONDS)
        self.revision = ""
        """The revision of the newest policies that were accepted."""
        self.problem: str | None = None
        """Why what the directory or the bundle holds now is not in force; None while it is."""
        self.restarts = 0
        self.on_change: Callable[[], None] = _nothing
        """Is called when OPA has died, and before and after it loads other policies."""

    @property
    def pid(self) -> int | None:
        """Return the process id while OPA runs."""
        return None if self._child is None else self._child.pid

    @property
    def directory(self) -> Path:
        """Return a directory with the policies in force and their schemas, from entering on; never the
        one that is written to.
        """
        return self._private / "content"

    async def __aenter__(self) -> Self:
        """Start OPA; it answers with the policies when this returns."""
        self._private.mkdir(mode=0o700)  # fails when it exists: nobody can have prepared it for us
        try:
            self._bundle.parent.mkdir()
            await self._accept(await self._policies.first())
            await self._probe.__aenter__()
            await self._start()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End OPA and remove its files."""
        await self._close()

    async def check(self) -> str:
        """Return the revision that OPA answers with. Raises `PolicyUnavailable`."""
        return await self._probe.revision()

    async def watch(self) -> None:
        """Keep OPA running, and the policies in force within three seconds of a change, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_running())
            tasks.create_task(self._keep_current())

    # ------------------------------------------------------------ the process

    async def _keep_running(self) -> None:
        delay = 0.0
        while True:
            if self._child is not None:
                status = await self._child.wait()
                self.on_change()
                _log.error(
                    "opa_died",
                    extra={"status": status, "after_s": round(time.monotonic() - self._started, 3)},
                )
            steady = time.monotonic() - self._started > _STEADY_SECONDS
            delay = 0.0 if steady else min(max(2 * delay, 0.05), _MAX_DELAY_SECONDS)
            await asyncio.sleep(delay)
            self.restarts += 1
            try:
                await self._start()
            except (ConfigurationError, OSError) as error:
                _log.error("opa_not_restarted", extra={"cause": str(error)})

    async def _start(self) -> None:
        self._started = time.monotonic()
        command = (
            *(sys.executable, "-I", "-S", parent_death.__file__, str(os.getpid())),
            *(
                str(self._opa),
                "run",
                "--server",
                "--optimize-store-for-read-speed",
                "--addr",
                f"unix://{self.address.socket}",
                "--unix-socket-perm",
                "600",
            ),
            *(
                "--authentication=token",
                "--authorization=basic",
                "--skip-version-check",
                "--shutdown-grace-period",
                "1",
            ),
            *("--log-level", "error", "--log-format", "json", "--watch", "--bundle", str(self._bundle)),
            *self._origin.arguments(),
        )
        self._child = child = await start_child(command, at=self._private)
        if not await self._answers(within_s=_START_SECONDS):
            fault = (
                "ended while it started"
                if child.pid is None
                else f"did not answer within {_START_SECONDS} s of its start"
            )
            child.kill()
            status = await child.wait()
            raise ConfigurationError(f"OPA {fault} (status {status}): {child.words or 'it said nothing'}")

    async def _answers(self, *, within_s: float) -> bool:
        """Return whether OPA comes to answer with the accepted revision before the time is up or it
        has ended.
        """
        until = time.monotonic() + within_s
        while time.monotonic() < until and self.pid is not None:
            try:
                if await self._probe.revision() == self.revision:
                    return True
            except PolicyUnavailable:
                pass
            await asyncio.sleep(_PROBE_SECONDS)
        return False

    async def _close(self) -> None:
        try:
            if self._child is not None:
                await self._child.end(within_s=_STOP_SECONDS)
        finally:
            await self._probe.__aexit__(None, None, None)
            shutil.rmtree(self._private, ignore_errors=True)

    # ------------------------------------------------------------ the policies

    async def _keep_current(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Take the policies that are there, if they are others than those in force, may serve, and have been
        still; else tell why not.

        Returns at once where nothing has changed, and else when what is there has been taken or refused: not
        while somebody is writing it.
        """
        await self._policies.look(self._conclude)

    async def _conclude(self, found: Found) -> None:
        """Put what was found in force, or tell what is wrong with it."""
        try:
            if isinstance(found, Exception):
                raise found
            if found is not None:
                await self._replace(found)
        except (BrokenPolicy, OSError) as error:
            if isinstance(error, OSError):  # a full disk, say: no fault of the policies, so try again
                self._policies.look_again()
            self.problem = str(error)
            _log.error("policy_broken", extra={"problem": self.problem, "in_force": self.revision})
            return
        self.problem = None

    async def _replace(self, candidate: Candidate) -> None:
        await self._accept(candidate)
        self.on_change()
        if not await self._answers(within_s=_RELOAD_SECONDS):
            # The file watch inside OPA failed us: a restart takes the new bundle for certain.
            if self._child is not None:
                self._child.kill()
            await asyncio.sleep(_PROBE_SECONDS)
        self.on_change()
        _log.warning("policy_changed", extra={"revision": self.revision, "gone": list(candidate.gone)})

    async def _accept(self, candidate: Candidate) -> None:
        """Put the policies where OPA reads them, and where `directory` leads: who reads there
        meanwhile reads the earlier ones or these.
        """
        folder = await asyncio.to_thread(self._unpacked, candidate.files)
        link = self._private / "content-next"
        link.unlink(missing_ok=True)
        link.symlink_to(folder.name)
        self._built.replace(self._bundle)
        link.replace(self.directory)
        self._origin.accept(candidate)
        self.revision = candidate.revision

    def _unpacked(self, files: Mapping[str, bytes]) -> Path:
        for earlier in self._private.glob("content-?*"):
            if earlier.name != self.directory.resolve().name:  # those in force may still be read for a while
                shutil.rmtree(earlier, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix="content-", dir=self._private))
        for name in filter(is_policy, files):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files[name])
        return folder


def _nothing() -> None:
    """Nobody wants to know."""


def _private_path() -> Path:
    """Return where to make a directory of our own, with room for a socket's name in its path."""
    name = f"regate-{secrets.token_hex(6)}"
    usual = Path(tempfile.gettempdir()) / name
    return usual if len(bytes(usual / "opa.sock")) <= _MAX_SOCKET_PATH else Path("/tmp") / name  # noqa: S108
