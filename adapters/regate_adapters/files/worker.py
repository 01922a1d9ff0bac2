"""The extraction worker: reads one request from standard input, answers on standard output, ends. Started by `extract.py`, its counterpart.

It binds itself by limits before it opens the file, and imports nothing of the core, so that a small file costs little more than the start
of an interpreter. It answers `{"chunks": […]}` or `{"code": …, "message": …}`; no answer at all means that a limit ended it.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

from regate_adapters.files.formats import Unreadable, read_text
from regate_adapters.files.splitting import split


def main() -> None:
    """Serve the one request."""
    request: dict[str, Any] = json.load(sys.stdin)
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
        text = read_text(Path(request["path"]), filename=filename)
        chunks = split(text, filename=filename, max_tokens=request["max_tokens"], overlap_tokens=request["overlap_tokens"])
        return {"chunks": chunks} if chunks else {"code": "invalid_file", "message": "The file holds no text."}
    except Unreadable as refusal:
        return {"code": refusal.code, "message": refusal.message}
    except MemoryError:
        return {"code": "invalid_file", "message": "The file takes more memory to read than is allowed."}
    except FileNotFoundError:
        return {"code": "invalid_file", "message": "The file was deleted."}
    except Exception:  # noqa: BLE001 — a parser may raise anything on a broken file, and its words could quote the file
        return {"code": "invalid_file", "message": "The file is not what its name says, or it is damaged."}


if __name__ == "__main__":
    main()
