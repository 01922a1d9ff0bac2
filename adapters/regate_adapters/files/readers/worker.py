"""The extraction worker: what reads one file in a process of its own, which `fork_server.py` made and bound.
Started by `extract.py`.

It answers `{"chunks": […]}` (one chunk, the whole text, when no split is asked for) or `{"code": …,
"message": …}`.
"""

from __future__ import annotations

import encodings
import importlib
import io
import json
import os
import pkgutil
import socket
import sys
from typing import Any, BinaryIO, Final

from regate_adapters.files.readers.fork_server import Answer, ForkServer
from regate_adapters.files.text.unreadable import Unreadable


def main() -> None:
    """Serve the requests that come over the socket whose descriptor is the argument."""
    os.environ.clear()
    ForkServer(socket.socket(fileno=int(sys.argv[1])), warm_up).serve()


def warm_up() -> Answer:
    """Return what reads a file. All that it may need is imported and loaded: a reader opens nothing."""
    for codec in pkgutil.iter_modules(encodings.__path__):
        if codec.name not in _OF_WINDOWS:
            importlib.import_module(f"encodings.{codec.name}")
    for filename, sample in _SAMPLES.items():
        _answer({"filename": filename, "split": {"max_tokens": 2, "overlap_tokens": 0}}, io.BytesIO(sample))
    return read


_OF_WINDOWS: Final = frozenset({"mbcs", "oem"})
_SAMPLES: Final = {
    "a.txt": "caf\u00e9".encode("cp1252"),
    "a.md": b"# Title\n\nwith words to split",
    "a.html": b"<p>&eacute;</p>",
    "a.eml": (
        b"Date: Thu, 1 Jan 2026 00:00:00 +0000\nSubject: =?utf-8?b?YQ==?=\nContent-Type: "
        b"text/html\n\n<p>a</p>"
    ),
    "b.eml": (
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\nSubject: "
        b"a\n\na\n--b--\n"
    ),
    "a.ipynb": b'{"cells": []}',
    "a.rtf": b"{\\rtf1 a}",
    **dict.fromkeys(("a.doc", "a.docx", "a.epub", "a.odt", "a.pdf", "a.xls"), b"none"),
}
"""What makes each library load all that it loads when it is first used."""


def read(request: dict[str, Any], file: BinaryIO) -> bytes:
    """Return the answer to the request."""
    return json.dumps(_answer(request, file), ensure_ascii=False).encode(errors="replace")


def _answer(request: dict[str, Any], file: BinaryIO) -> dict[str, Any]:
    from regate_adapters.files.sections import without_marks
    from regate_adapters.files.splitting import split, split_by
    from regate_adapters.files.text.formats import read_marked, read_text

    filename = request["filename"]
    try:
        wanted, sections = request["split"], request.get("sections")
        if wanted is None:
            chunks = [read_text(file, filename=filename)]
        else:
            text = read_marked(file, filename=filename)
            by_sections = None if sections is None else split_by(text=text, filename=filename, **sections)
            chunks = by_sections or split(without_marks(text), filename=filename, **wanted)
        return (
            {"chunks": chunks} if chunks else {"code": "invalid_file", "message": "The file holds no text."}
        )
    except Unreadable as refusal:
        return {"code": refusal.code, "message": refusal.message}
    except MemoryError:
        return {"code": "invalid_file", "message": "The file takes more memory to read than is allowed."}
    # A parser may raise anything on a broken file (Rust's panics are no Exceptions), and quote the file
    except BaseException:  # noqa: BLE001
        return {"code": "invalid_file", "message": "The file is not what its name says, or it is damaged."}


if __name__ == "__main__":
    main()
