"""One conversation with a kernel, in Jupyter's messages (version 5.3): code goes in, and what it writes comes
back until the kernel says that it is idle.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import orjson

from regate_orchestrator.ports import Channel, CodeFailed

_ANSI: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_IMAGES: Final = ("image/png", "image/jpeg")
_CUT: Final = "\n[The rest was cut.]"
_MAX_IMAGES: Final = 10


@dataclass(slots=True)
class Written:
    """What a run wrote so far."""

    most: int
    parts: list[str] = field(default_factory=list)
    size: int = 0
    images: list[bytes] = field(default_factory=list)
    failed: bool = False

    @property
    def text(self) -> str:
        """Return it as text, cut where it is longer than it may be."""
        return "".join(self.parts)

    def add(self, text: str) -> None:
        """Add text as far as it fits."""
        if self.size >= self.most:
            return
        left = self.most - self.size
        plain = _ANSI.sub("", text)
        self.parts.append(plain if len(plain) <= left else plain[:left] + _CUT)
        self.size += len(plain)

    def show(self, data: Mapping[str, Any]) -> None:
        """Add what is displayed: an image, or else a text."""
        for kind in _IMAGES:
            if isinstance(encoded := data.get(kind), str) and len(self.images) < _MAX_IMAGES:
                with suppress(binascii.Error):
                    self.images.append(base64.b64decode(encoded))
                return
        if isinstance(text := data.get("text/plain"), str):
            self.add(text + "\n")


async def execute(channel: Channel, code: str, *, most: int) -> Written:
    """Return what the code wrote, once it has run. Raises `CodeFailed` for a kernel that dies, and
    `FetchFailed`.
    """
    message_id, written = uuid4().hex, Written(most)
    await channel.send(_request(message_id, code))
    replied = idle = False
    while not (replied and idle):
        message = _read(await channel.receive())
        kind, content = message.get("msg_type"), message.get("content") or {}
        if kind == "status" and content.get("execution_state") in ("dead", "restarting", "autorestarting"):
            raise CodeFailed("The code ended its container, for example by using too much memory.")
        if (message.get("parent_header") or {}).get("msg_id") != message_id:
            continue
        match kind:
            case "stream":
                written.add(str(content.get("text", "")))
            case "execute_result" | "display_data":
                written.show(content.get("data") or {})
            case "error":
                written.failed = True
                written.add("\n".join(map(str, content.get("traceback") or ())) + "\n")
            case "status":
                idle = content.get("execution_state") == "idle"
            case "execute_reply":
                replied = True
    return written


def _request(message_id: str, code: str) -> str:
    header = {"msg_id": message_id, "msg_type": "execute_request", "version": "5.3"}
    return orjson.dumps(
        {
            "header": {**header, "username": "", "session": message_id, "date": ""},
            "parent_header": {},
            "metadata": {},
            "content": {
                "code": code,
                "silent": False,
                "store_history": False,
                "user_expressions": {},
                "allow_stdin": False,
                "stop_on_error": True,
            },
            "channel": "shell",
            "buffers": [],
        }
    ).decode()


def _read(text: str) -> Mapping[str, Any]:
    try:
        message = orjson.loads(text)
    except ValueError as error:
        raise CodeFailed("The server of the container does not speak Jupyter's protocol.") from error
    if not isinstance(message, dict):
        raise CodeFailed("The server of the container does not speak Jupyter's protocol.")
    header = message.get("header")
    kind = header.get("msg_type") if isinstance(header, dict) else None
    return {**message, "msg_type": message.get("msg_type") or kind}
