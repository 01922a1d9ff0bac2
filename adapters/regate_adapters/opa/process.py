"""A managed OPA: our own child process on a private unix socket, always running, always with the policies of a watched place.

OPA reads the policies from a bundle that `origins.py` makes of a directory or of a signed bundle, and that is replaced when those change; a
broken change leaves the old bundle in force and is told in `problem`. The socket, the bundle and the token that OPA asks for live in a
directory only this user can enter. Not a client of OPA; that is `engine.py`.
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
from collections.abc import Collection
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from regate_adapters.opa import leash
from regate_adapters.opa.bundle import BrokenPolicy
from regate_adapters.opa.client import OpaAddress
from regate_adapters.opa.engine import OpaEngine
from regate_adapters.opa.origins import PolicyDirectory, PolicyOrigin
from regate_adapters.opa.signed import SignedBundle
from regate_orchestrator.errors import ConfigurationError, PolicyUnavailable

_log = logging.getLogger("regate.opa")

_POLL_S: Final = 0.5
_PROBE_S: Final = 0.01
_START_S: Final = 10.0
_RELOAD_S: Final = 1.0
_STOP_S: Final = 2.0
_STEADY_S: Final = 5.0
_LONGEST_DELAY_S: Final = 5.0
_LONGEST_SOCKET_PATH: Final = 100  # the kernel's limit is 108 bytes, 104 on macOS


class ManagedOpa:
    """An OPA process for one policy directory, or with a verification key for one signed bundle. Enter it, then run `watch` in a task group.

    Entering raises `ConfigurationError` (`BrokenPolicy` for the policies) when OPA cannot be started with what is there now. `required` are
    the rules that the policies must have. Leaving ends the process. Should we die without leaving, the kernel ends it (on Linux).
    """

    def __init__(self, policies: Path, *, opa: Path, required: Collection[str] = (), verification_key: Path | None = None) -> None:
        self._opa = opa
        self._required = frozenset(required)
        self._private = _private_path()
        self._origin: PolicyOrigin = (
            PolicyDirectory(policies) if verification_key is None else SignedBundle(policies, verification_key, private=self._private)
        )
        self._token = secrets.token_urlsafe(32)
        self._process: asyncio.subprocess.Process | None = None
        self._started = 0.0
        self._seen: frozenset[tuple[str, int, int]] = frozenset()
        self.address = OpaAddress("http://opa", socket=self._private / "opa.sock", token=self._token)
        self._probe = OpaEngine(self.address, schemas={}, deadline_s=_RELOAD_S)
        self.revision = ""
        """The revision of the newest policies that were accepted."""
        self.problem: str | None = None
        """Why what the directory or the bundle holds now is not in force; None while it is."""
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """Return the process id while OPA runs."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    @property
    def directory(self) -> Path:
        """Return a directory with the policies in force and their schemas, from entering on."""
        return self._origin.directory

    async def __aenter__(self) -> Self:
        """Start OPA; it answers with the policies when this returns."""
        self._private.mkdir(mode=0o700)  # fails when it exists: nobody can have prepared it for us
        try:
            (self._private / "active").mkdir()
            self._seen = await asyncio.to_thread(self._origin.fingerprint)
            await self._accept()
            await self._probe.__aenter__()
            await self._start()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End OPA and remove its files."""
        await self._close()

    async def watch(self) -> None:
        """Keep OPA running, and the policies in force within three seconds of a change, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_running())
            tasks.create_task(self._keep_current())

    # ------------------------------------------------------------ the process

    async def _keep_running(self) -> None:
        delay = 0.0
        while True:
            if self._process is not None:
                await self._relay_log(self._process)
                status = await self._process.wait()
                _log.error("opa_died", extra={"status": status, "after_s": round(time.monotonic() - self._started, 3)})
            steady = time.monotonic() - self._started > _STEADY_S
            delay = 0.0 if steady else min(max(2 * delay, 0.05), _LONGEST_DELAY_S)
            await asyncio.sleep(delay)
            self.restarts += 1
            try:
                await self._start()
            except (ConfigurationError, OSError) as error:
                _log.error("opa_not_restarted", extra={"cause": str(error)})

    async def _start(self) -> None:
        self._started = time.monotonic()
        self._process = process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", leash.__file__, str(os.getpid())),
            *(str(self._opa), "run", "--server", "--addr", f"unix://{self.address.socket}", "--unix-socket-perm", "600"),
            *("--authentication=token", "--authorization=basic", "--skip-version-check", "--shutdown-grace-period", "1"),
            *("--log-level", "error", "--log-format", "json", "--watch", "--bundle", str(self._bundle)),
            *self._origin.arguments(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,  # OPA tells why it did not start on the one, and all else on the other
            env={},  # policies can read OPA's environment, and ours holds secrets
            cwd=self._private,
        )
        if not await self._answers(within_s=_START_S):
            fault = "ended while it started" if self.pid is None else f"did not answer within {_START_S} s of its start"
            if self.pid is not None:
                process.kill()
            await self._relay_log(process)
            await process.wait()
            raise ConfigurationError(f"OPA {fault}; its own words are in the log")

    async def _answers(self, *, within_s: float) -> bool:
        """Return whether OPA comes to answer with the accepted revision before the time is up or it has ended."""
        until = time.monotonic() + within_s
        while time.monotonic() < until and self.pid is not None:
            try:
                if await self._probe.revision() == self.revision:
                    return True
            except PolicyUnavailable:
                pass
            await asyncio.sleep(_PROBE_S)
        return False

    async def _relay_log(self, process: asyncio.subprocess.Process) -> None:
        """Log what OPA writes until it ends."""
        if process.stderr is None:
            return
        while chunk := await process.stderr.read(4096):
            words = chunk.decode(errors="replace").strip()
            # As root OPA warns of root at every start; whatever else it writes at its level is an error.
            harmless = words.startswith("{") and words.count('"level":') == words.count('"level":"warning"')
            _log.log(logging.INFO if harmless else logging.ERROR, "opa_said", extra={"words": words})

    async def _close(self) -> None:
        process = self._process
        try:
            if process is not None and process.returncode is None:
                process.terminate()
                try:
                    async with asyncio.timeout(_STOP_S):
                        await self._relay_log(process)
                        await process.wait()
                except TimeoutError:
                    process.kill()
                    await process.wait()
        finally:
            await self._probe.__aexit__(None, None, None)
            shutil.rmtree(self._private, ignore_errors=True)

    # ------------------------------------------------------------ the policies

    @property
    def _bundle(self) -> Path:
        return self._private / "active" / "policy.tar.gz"

    async def _keep_current(self) -> None:
        while True:
            await asyncio.sleep(_POLL_S)
            seen = await asyncio.to_thread(self._origin.fingerprint)
            if seen != self._seen:
                self._seen = seen
                await self._reload()

    async def _reload(self) -> None:
        try:
            changed = await self._accept()
        except (BrokenPolicy, OSError) as error:
            if isinstance(error, OSError):  # a full disk, say: no fault of the policies, so try again
                self._seen = frozenset()
            self.problem = str(error)
            _log.error("policy_broken", extra={"problem": self.problem, "in_force": self.revision})
            return
        if changed and not await self._answers(within_s=_RELOAD_S):
            # The file watch inside OPA failed us: a restart takes the new bundle for certain.
            if self._process is not None and self.pid is not None:
                self._process.kill()
            await asyncio.sleep(_PROBE_S)
        if changed:
            _log.warning("policy_changed", extra={"revision": self.revision})
        self.problem = None

    async def _accept(self) -> bool:
        """Put the policies where OPA reads them; return whether they differ. Raises `BrokenPolicy` and changes nothing."""
        built = self._private / "built.tar.gz"
        build = partial(self._origin.build, built, opa=self._opa, gateway_token=self._token, required=self._required)
        revision = await asyncio.to_thread(build)
        if revision is None:
            return False
        built.replace(self._bundle)
        self.revision = revision
        return True


def _private_path() -> Path:
    """Return where to make a directory of our own, with room for a socket's name in its path."""
    name = f"regate-{secrets.token_hex(6)}"
    usual = Path(tempfile.gettempdir()) / name
    return usual if len(bytes(usual / "opa.sock")) <= _LONGEST_SOCKET_PATH else Path("/tmp") / name  # noqa: S108
