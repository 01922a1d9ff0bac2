"""The system calls that reading an open file takes, as the program in which the kernel is told of them
(seccomp). A part of `confinement.py`.

A call that is not listed fails with EPERM, as it does for whoever lacks a right; so what a library tries in
passing does it no harm. Calls are left out that name another process or a path, that make a socket, a process
or a program, or that change what others may do.
"""

from __future__ import annotations

import struct
from typing import Final

_ARCHITECTURES: Final = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""How the kernel calls the machine, and which of a call's two numbers is its."""

_ALLOWED: Final = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "pread64": (17, 67),
    "readv": (19, 65),
    "writev": (20, 66),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "nanosleep": (35, 101),
    "getpid": (39, 172),
    "exit": (60, 93),
    "gettimeofday": (96, 169),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "set_robust_list": (273, 99),
    "getrandom": (318, 278),
    "rseq": (334, 293),
}
_CLONE: Final = (56, 220)
_CLONE3: Final = (435, 435)
_CLONE_THREAD: Final = 0x10000

_LOAD: Final = 0x20
_JUMP_IF_EQUAL: Final = 0x15
_JUMP_IF_SET: Final = 0x45
_RETURN: Final = 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_KILL: Final = 0x80000000
_ALLOW: Final = 0x7FFF0000
_FAIL: Final = 0x00050000
_EPERM: Final = 1
_ENOSYS: Final = 38


def program(machine: str) -> bytes | None:
    """Return the program for this machine, eight bytes an instruction; None for a machine whose
    numbers are not known here.
    """
    if machine not in _ARCHITECTURES:
        return None
    architecture, which = _ARCHITECTURES[machine]
    allowed = [numbers[which] for numbers in _ALLOWED.values()]
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_IF_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),  # the numbers of another architecture mean other calls
        (_LOAD, 0, 0, _NUMBER),
        *((_JUMP_IF_EQUAL, len(allowed) + 3 - place, 0, number) for place, number in enumerate(allowed)),
        (
            _JUMP_IF_EQUAL,
            4,
            0,
            _CLONE3[which],
        ),  # its flags cannot be seen from here: without it, threads are made by clone
        (_JUMP_IF_EQUAL, 0, 4, _CLONE[which]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_JUMP_IF_SET, 0, 2, _CLONE_THREAD),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _FAIL | _ENOSYS),
        (_RETURN, 0, 0, _FAIL | _EPERM),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
