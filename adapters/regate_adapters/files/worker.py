"""The extraction worker: reads one request from standard input, answers on standard output, ends. Started by `extract.py`, its counterpart.

The request is a line of JSON, after which the bytes follow when it names no path. The worker binds itself by limits before it touches the
file, and imports nothing of the core, so that a small file costs little more than the start of an interpreter. It answers `{"chunks": […]}`
(one chunk, the whole text, when no split is asked for) or `{"code": …, "message": …}`; no answer at all means that a limit ended it.
"""

from __future__ import annotations

import io
import json
import resource
import sys
from pathlib import Path
from typing import Any, BinaryIO

from regate_adapters.files.formats import Unreadable, read_text
from regate_adapters.files.splitting import split


def main() -> None:
    """Serve the one request."""
    request: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    _bind(cpu_s=request["cpu_s"], memory_bytes=request["memory_bytes"])
    answer = json.dumps(_answer(request), ensure_ascii=False)
    sys.stdout.buffer.write(answer.encode())


def _bind(*, cpu_s: int, memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    filename = request["filename"]
    try:
        with _opened(request["path"]) as file:
            text = read_text(file, filename=filename)
        wanted = request["split"]
        chunks = [text] if wanted is None else split(text, filename=filename, **wanted)
        return {"chunks": chunks} if chunks else {"code": "invalid_file", "message": "The file holds no text."}
    except Unreadable as refusal:
        return {"code": refusal.code, "message": refusal.message}
    except MemoryError:
        return {"code": "invalid_file", "message": "The file takes more memory to read than is allowed."}
    except FileNotFoundError:
        return {"code": "invalid_file", "message": "The file was deleted."}
    except Exception:  # noqa: BLE001 — a parser may raise anything on a broken file, and its words could quote the file
        return {"code": "invalid_file", "message": "The file is not what its name says, or it is damaged."}


def _opened(path: str | None) -> BinaryIO:
    return io.BytesIO(sys.stdin.buffer.read()) if path is None else Path(path).open("rb")


if __name__ == "__main__":
    main()
