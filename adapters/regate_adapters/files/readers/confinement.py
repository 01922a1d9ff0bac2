"""What the kernel holds a process to that reads strangers' files: no network, no files, no other process, no
rights of ours.

Each mechanism is used where the kernel has it, alone if need be: a network namespace, an identity and
capabilities given up, Landlock, and a list of the system calls that reading takes (`system_calls.py`). A
network namespace is dear to make, so `without_network` is for the process that forks readers; `confine` is
for each reader, once it has all that it needs open and imported. Both say what is in force and what is not.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from regate_adapters.files.readers.system_calls import program

_LIBRARY: Final = ctypes.CDLL(None, use_errno=True)

_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
_NOBODY: Final = 65534

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_FILTER: Final = 2

_LANDLOCK_CREATE_RULESET: Final = 444
_LANDLOCK_RESTRICT_SELF: Final = 446
_LANDLOCK_VERSION: Final = 1
_FILES: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
"""The rights to files that each version of Landlock can take away. Versions after the last here take
away as much.
"""
_TCP_SINCE: Final = 4
_TCP: Final = 0b11
_SCOPES_SINCE: Final = 6
_SCOPES: Final = 0b11

_CAPABILITIES_VERSION: Final = 0x20080522


@dataclass(slots=True)
class Confinement:
    """The mechanisms that are in force, and why each of the others is not."""

    in_force: list[str] = field(default_factory=list)
    lacking: dict[str, str] = field(default_factory=dict)

    def note(self, mechanism: str, attempt: Callable[[], None]) -> None:
        """Make the attempt, and note what came of it."""
        try:
            attempt()
        except OSError as error:
            self.lacking[mechanism] = error.strerror or type(error).__name__
        else:
            self.in_force.append(mechanism)


def without_network() -> Confinement:
    """Move this process into a network of its own, in which there is nothing. It must not have threads."""
    made = Confinement()
    made.note("network_namespace", _leave_network)
    return made


def confine(*, parent: int) -> Confinement:
    """Take from this process, for good, all that reading an open file does not need. Its descriptors stay as
    they are.

    It dies with its parent.
    """
    made = Confinement()
    made.note("no_new_privileges", lambda: _prctl(_PR_SET_NO_NEW_PRIVS, 1))
    if os.geteuid() == 0:  # another user has no other identity to take
        made.note("own_identity", _become_nobody)
    made.note("no_capabilities", _drop_capabilities)
    made.note(
        "dies_with_parent", lambda: _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    )  # whoever changes its identity is asked anew
    if os.getppid() != parent:  # it died before the kernel knew
        os._exit(1)
    version = _landlock_version()
    for mechanism, since in (
        ("landlock_files", 1),
        ("landlock_network", _TCP_SINCE),
        ("landlock_signals", _SCOPES_SINCE),
    ):
        if version < since:
            made.lacking[mechanism] = (
                f"the kernel has version {version} of Landlock" if version else "the kernel has no Landlock"
            )
        else:
            made.in_force.append(mechanism)
    if version:
        try:
            _restrict(version)
        except OSError as error:
            made.in_force = [name for name in made.in_force if not name.startswith("landlock")]
            made.lacking["landlock"] = error.strerror or type(error).__name__
    made.note("system_calls", _allow_only_reading)
    return made


def bind(*, cpu_s: int, memory_bytes: int) -> None:
    """Limit what this process may take. Past its processor time it is ended by SIGXCPU."""
    for kind, soft, hard in (
        (resource.RLIMIT_CPU, cpu_s, cpu_s + 1),
        (resource.RLIMIT_AS, memory_bytes, memory_bytes),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NOFILE, 16, 16),
    ):
        resource.setrlimit(kind, (soft, hard))


def _leave_network() -> None:
    """Not even loopback is up in the new one. Whoever may not make a network may in a user namespace,
    where the kernel lets anybody.
    """
    try:
        _call("unshare", _CLONE_NEWNET)
    except OSError:
        _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNET)


def _become_nobody() -> None:
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)


def _drop_capabilities() -> None:
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITIES_VERSION, 0))
    _call("capset", header, ctypes.create_string_buffer(24))


def _landlock_version() -> int:
    try:
        return _syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION)
    except OSError:
        return 0


def _restrict(version: int) -> None:
    """Take away all rights that this version knows, and make no exception: what is read is open already."""
    rights = [_FILES[min(version, max(_FILES))]]
    rights += [_TCP] if version >= _TCP_SINCE else []
    rights += [_SCOPES] if version >= _SCOPES_SINCE else []
    taken = struct.pack(f"={len(rights)}Q", *rights)
    ruleset = _syscall(_LANDLOCK_CREATE_RULESET, ctypes.create_string_buffer(taken), len(taken), 0)
    try:
        _syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _allow_only_reading() -> None:
    code = program(platform.machine())
    if code is None:
        raise OSError(0, f"there is no list of system calls for {platform.machine()}")
    held = ctypes.create_string_buffer(code, len(code))
    given = _Program(len(code) // 8, ctypes.addressof(held))
    _prctl(_PR_SET_SECCOMP, _FILTER, ctypes.addressof(given))


def _prctl(option: int, *values: int) -> None:
    _call("prctl", option, *(*values, 0, 0, 0, 0)[:4])


def _syscall(number: int, *arguments: object) -> int:
    return _call("syscall", number, *arguments)


def _call(name: str, *arguments: object) -> int:
    """Call a function of the C library that answers -1 when it fails. Raises `OSError` then, and where
    there is none of this name.
    """
    function = getattr(_LIBRARY, name, None)
    if function is None:
        raise OSError(0, f"{sys.platform} has no {name}")
    result: int = function(*[ctypes.c_long(one) if isinstance(one, int) else one for one in arguments])
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
