"""Serves each request in a child forked for it alone, so that it costs no start of an interpreter and nothing
of one can be there at another.

This process is warm and clean: it never touches a byte of a file. A child shares its memory as it was before,
keeps of its descriptors the two that it reads from and answers on, gives up all else (`confinement.py`), and
ends with its answer. The counterpart is `extract.py`.

A request is its length, a line of JSON, and with these three descriptors: the input, where the answer goes,
and a socket that is the request's life. When the other end of that is closed or shut, the child is killed;
when the child has ended, it says how, and is closed.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn, TypeAlias

from regate_adapters.files.readers.confinement import bind, confine, without_network

Answer: TypeAlias = Callable[[dict[str, Any], BinaryIO], bytes]
"""What makes of a request, and the input, the answer."""

LENGTH: Final = struct.Struct("=I")
ENDED: Final = struct.Struct("=i")
"""How a child ended: its exit code, or the number of the signal that ended it, negative."""
NOT_STARTED: Final = 71


@dataclass(frozen=True, slots=True)
class _Child:
    pid: int
    life: socket.socket


class ForkServer:
    """Serves what comes over `control` until that is closed; `warm_up` is called before the first
    request, and returns what answers.
    """

    def __init__(self, control: socket.socket, warm_up: Callable[[], Answer]) -> None:
        self._control = control
        self._warm_up = warm_up
        self._answer: Answer | None = None
        self._children: dict[int, _Child] = {}
        self._poll = select.poll()

    def serve(self) -> None:
        """Say what holds the children, then serve. All children are dead when it returns."""
        _be_first_to_go()
        woken = _wake_on_death()
        self._poll.register(self._control, select.POLLIN)
        self._poll.register(woken, select.POLLIN)
        self._say_confinement()
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._control.fileno():
                    if not self._accept():
                        return self._end()
                elif descriptor == woken.fileno():
                    woken.recv(4096)
                elif descriptor in self._children:
                    self._kill(self._children[descriptor])
            self._bury()

    def _say_confinement(self) -> None:
        """Have a child tell what it is held by: it is the same for each."""
        network = without_network()
        parent = os.getpid()
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            made = confine(parent=parent)
            said = {"in_force": network.in_force + made.in_force, "lacking": network.lacking | made.lacking}
            os.write(writing, json.dumps(said).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said_bytes = pipe.read()
        os.waitpid(pid, 0)
        self._control.sendall(LENGTH.pack(len(said_bytes)) + said_bytes)

    def _accept(self) -> bool:
        """Take one request and start its child; return False when there will be no more."""
        head, descriptors, _, _ = socket.recv_fds(self._control, LENGTH.size, 3)
        if len(head) < LENGTH.size:
            return False
        (length,) = LENGTH.unpack(head)
        request = json.loads(self._control.recv(length, socket.MSG_WAITALL))
        source, sink, life = descriptors
        try:
            self._start(request, source, sink, socket.socket(fileno=life))
        finally:
            os.close(source)
            os.close(sink)
        return True

    def _start(self, request: dict[str, Any], source: int, sink: int, life: socket.socket) -> None:
        if self._answer is None:
            self._answer = self._warm_up()
            gc.collect()
            gc.freeze()  # what is here now is shared with each child, and stays so
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            _say_end(life, NOT_STARTED)
            return
        if pid == 0:
            _be_child(parent, self._answer, request, source, sink)
        self._children[life.fileno()] = _Child(pid, life)
        self._poll.register(life, select.POLLIN)

    def _kill(self, child: _Child) -> None:
        os.kill(child.pid, signal.SIGKILL)
        self._poll.unregister(child.life)

    def _bury(self) -> None:
        for descriptor, child in list(self._children.items()):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                del self._children[descriptor]
                with contextlib.suppress(KeyError):  # one that was killed is watched no more
                    self._poll.unregister(descriptor)
                _say_end(child.life, os.waitstatus_to_exitcode(status))

    def _end(self) -> None:
        for child in self._children.values():
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)


def _be_first_to_go() -> None:
    """Have a kernel that is short of memory end us and our children before anybody else."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _wake_on_death() -> socket.socket:
    """Return a socket that can be read when a child has died."""
    reading, writing = socket.socketpair()
    reading.setblocking(False)
    writing.setblocking(False)
    signal.set_wakeup_fd(writing.detach(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return reading


def _be_child(parent: int, answer: Answer, request: dict[str, Any], source: int, sink: int) -> NoReturn:
    """Answer and end. Whatever goes wrong, this process must never go on as the one that it was
    forked from.
    """
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(source, 0)
        os.dup2(sink, 1)
        os.closerange(2, os.sysconf("SC_OPEN_MAX"))
        file = os.fdopen(0, "rb", closefd=False)  # which asks what it is, and later may not
        os.nice(request["nice"])
        bind(cpu_s=request["cpu_s"], memory_bytes=request["memory_bytes"])
        confine(parent=parent)
        _write_all(answer(request, file))
        code = 0
    finally:
        os._exit(code)


def _write_all(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(1, rest) :]


def _say_end(life: socket.socket, code: int) -> None:
    with life:
        try:
            life.send(ENDED.pack(code))
        except OSError:
            return  # whoever asked has gone
