"""Becomes another program that the kernel kills when our parent dies. Run as a script: `leash.py PARENT PROGRAM ARGUMENT…`.

A program of its own rather than a `preexec_fn`, which may deadlock in a process that has threads. Beyond Linux it only becomes the program,
which is then ended by `process.py`, the counterpart, in every case but our own sudden death.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, program: list[str]) -> None:
    """Replace this process by the program, unless the parent is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == parent:  # else it died before the kernel knew what to do about it
        os.execve(program[0], program, {})  # noqa: S606 - policies can read the environment, so it is empty


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
