"""What reading a file costs, and how much of the files of a folder is read. `python -m bench.documents`.

The first measures small files through the real readers: how many a second, and the processor time of each.
The second needs a folder of the caller's (`--folder`, or the environment's `DOCUMENTS`) and prints a table by
kind of file (`documents_table.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from bench.documents_table import print_table
from bench.machine import describe, watched
from bench.timing import measure
from regate_adapters.files.readers.extract import WorkerExtractor

_FILES: Final = 400
_SMALL: Final = "A small file says something in a few words. " * 12


async def small_files(extractor: WorkerExtractor) -> None:
    """Print how many small files a second are read, and what each takes of a processor."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_text(_SMALL)

        async def read() -> None:
            await extractor.chunks(
                _at(path), filename="a.txt", tenant="acme", max_tokens=800, overlap_tokens=400
            )

        await read()
        for at_once in (1, 2):
            before = _processor_ms(extractor)
            _, rate = await measure(read, calls=_FILES, connections=at_once)
            each = (_processor_ms(extractor) - before) / _FILES
            print(
                f"{at_once} at once: {rate:.0f} files a second; {each:.1f} ms of a processor each, so "
                f"{1000 / each:.0f} a second a core"
            )


def _processor_ms(extractor: WorkerExtractor) -> float:
    """The processor time of the readers, of the process that forks them, and of this one."""
    assert extractor._server is not None  # noqa: SLF001 — a benchmark looks inside
    fields = Path(f"/proc/{extractor._server._process.pid}/stat").read_text().rpartition(")")[2].split()  # noqa: SLF001
    own = os.times()
    return sum(map(int, fields[11:15])) * 1000 / os.sysconf("SC_CLK_TCK") + (own.user + own.system) * 1000


@asynccontextmanager
async def _at(path: Path) -> AsyncIterator[Path]:
    yield path


async def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder",
        type=Path,
        default=os.environ.get("DOCUMENTS"),
        help="measure what is read of the files below it",
    )
    folder = parser.parse_args().folder
    print(describe())
    async with WorkerExtractor() as extractor:
        if folder is not None:
            await print_table(
                lambda path: extractor.text(_at(path), filename=path.name, tenant="acme"), Path(folder)
            )
        with watched():
            await small_files(extractor)


if __name__ == "__main__":
    asyncio.run(main())
