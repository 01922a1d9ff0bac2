"""A reader that a file has taken over: run as the readers' server, it tries what a request's `filename` says,
and answers what came of it.

`--without NAME…` makes it as if the kernel lacked these mechanisms; `--as-user` gives up being root first.
The last argument is the server's.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from regate_adapters.files.readers import confinement
from regate_adapters.files.readers.fork_server import Answer, ForkServer

LIBC = ctypes.CDLL(None, use_errno=True)
MECHANISMS = {
    "network_namespace": "_leave_network",
    "own_identity": "_become_nobody",
    "no_capabilities": "_drop_capabilities",
    "landlock": "_restrict",
    "system_calls": "_allow_only_reading",
}


def called(result: int) -> None:
    if result == -1:
        raise OSError(ctypes.get_errno(), "")


def connect(port: str) -> None:
    with socket.socket() as one:
        one.connect(("127.0.0.1", int(port)))


def connect_unix(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(path)


def listen(_: str) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()


def read(path: str) -> None:
    Path(path).read_bytes()


def write(path: str) -> None:
    Path(path).write_text("written")


def make_directory(path: str) -> None:
    Path(path).mkdir()


def remove(path: str) -> None:
    Path(path).unlink()


def fork(_: str) -> None:
    if os.fork() == 0:
        os._exit(0)


def spawn(_: str) -> None:
    subprocess.run(["/bin/true"], check=True)


def become(_: str) -> None:
    os.execv("/bin/true", ["true"])


def stop_parent(_: str) -> None:
    os.kill(os.getppid(), signal.SIGSTOP)


def signal_pid(pid: str) -> None:
    os.kill(int(pid), 0)


def signal_all(_: str) -> None:
    os.kill(-1, 0)


def trace_parent(_: str) -> None:
    called(LIBC.ptrace(16, os.getppid(), 0, 0))


def read_memory_of_parent(_: str) -> None:
    class Piece(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    buffer = ctypes.create_string_buffer(8)
    ours = Piece(ctypes.addressof(buffer), 8)
    called(LIBC.process_vm_readv(os.getppid(), ctypes.byref(ours), 1, ctypes.byref(ours), 1, 0))


def raise_limits(_: str) -> None:
    limits = (ctypes.c_ulong * 2)(10_000, 10_000)
    called(LIBC.setrlimit(resource.RLIMIT_CPU, limits))


def limit_parent(_: str) -> None:
    resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))


def become_root(_: str) -> None:
    os.setuid(0)
    if os.geteuid() != 0:
        raise PermissionError(errno.EPERM, "")


def use_descriptors(_: str) -> None:
    for descriptor in range(2, 200):
        try:
            os.lseek(descriptor, 0, os.SEEK_CUR)
        except OSError as error:
            if error.errno == errno.EBADF:
                continue
        raise ValueError(f"descriptor {descriptor} is open")
    raise OSError(errno.EBADF, "")


ATTEMPTS: dict[str, Callable[[str], None]] = {
    name: made for name, made in globals().items() if callable(made) and name.islower()
}


def outcome(name: str, argument: str) -> str:
    try:
        ATTEMPTS[name](argument)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "an error")
    return "done"


def answer(request: dict[str, Any], _: BinaryIO) -> bytes:
    name, _, argument = request["filename"].partition(" ")
    return json.dumps({"chunks": [outcome(name, argument)]}).encode()


def lacking(*_: object) -> None:
    raise OSError(errno.ENOSYS, "not in this kernel")


def warm_up() -> Answer:
    return answer


def main(*arguments: str) -> None:
    *options, control = arguments
    for mechanism in options:
        if mechanism in MECHANISMS:
            setattr(confinement, MECHANISMS[mechanism], lacking)
    if "--as-user" in options:
        os.setgroups([])
        os.setresgid(12_345, 12_345, 12_345)
        os.setresuid(12_345, 12_345, 12_345)
    ForkServer(socket.socket(fileno=int(control)), warm_up).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
