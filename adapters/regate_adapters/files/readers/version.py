"""What changes with all that decides which text is read of a file, and how it is split: our code, the
libraries that it uses, and Python.

It is taken from the code itself, so that nobody has to remember to raise a number.
"""

from __future__ import annotations

import hashlib
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

LIBRARIES: Final = ("chardet", "olefile", "pypdfium2", "python-calamine", "semantic-text-splitter")
_FOLDER: Final = Path(__file__).parents[1]


def sources() -> list[Path]:
    """Return the modules that read and split."""
    return sorted([*_FOLDER.glob("*.py"), *_FOLDER.glob("text/*.py"), _FOLDER / "readers/worker.py"])


@cache
def reading_version() -> str:
    """Return the digest of all of it."""
    digest = hashlib.sha256(sys.version.encode())
    for library in LIBRARIES:
        digest.update(f"{library} {version(library)}\n".encode())
    for path in sources():
        code = path.read_bytes()
        digest.update(f"{path.relative_to(_FOLDER)} {len(code)}\n".encode() + code)
    return digest.hexdigest()
