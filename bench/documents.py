"""What reading a file costs, and what is read of the files of a folder beside what other libraries read of them. `python -m bench.documents`.

The first measures small files through the real readers: how many a second, and the processor time of each. The second needs a folder of the
caller's (`--folder`, or the environment's `DOCUMENTS`): for each kind the files that were read, and the words that one reader found and another
did not. Libraries that are not installed are left out; none but ours is needed.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from bench.machine import describe, watched
from bench.timing import measure
from regate_adapters.files.extract import WorkerExtractor
from regate_orchestrator.ports import UnreadableFile

_FILES: Final = 400
_SMALL: Final = "A small file says something in a few words. " * 12
_MOST_SHOWN: Final = 12
_WORD: Final = re.compile(r"[^\W_]{3,}")

Reader = Callable[[Path], str]


# ---------------------------------------------------------------- small files


async def small_files(extractor: WorkerExtractor) -> None:
    """Print how many small files a second are read, and what each takes of a processor."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_text(_SMALL)

        async def read() -> None:
            await extractor.chunks(_at(path), filename="a.txt", tenant="acme", max_tokens=800, overlap_tokens=400)

        await read()
        for at_once in (1, 2):
            before = _processor_ms(extractor)
            _, rate = await measure(read, calls=_FILES, connections=at_once)
            each = (_processor_ms(extractor) - before) / _FILES
            print(f"{at_once} at once: {rate:.0f} files a second; {each:.1f} ms of a processor each, so {1000 / each:.0f} a second a core")


def _processor_ms(extractor: WorkerExtractor) -> float:
    """The processor time of the readers, of the process that forks them, and of this one."""
    assert extractor._server is not None  # noqa: SLF001 — a benchmark looks inside
    fields = Path(f"/proc/{extractor._server._process.pid}/stat").read_text().rpartition(")")[2].split()  # noqa: SLF001
    own = os.times()
    return sum(map(int, fields[11:15])) * 1000 / os.sysconf("SC_CLK_TCK") + (own.user + own.system) * 1000


@asynccontextmanager
async def _at(path: Path) -> AsyncIterator[Path]:
    yield path


# ---------------------------------------------------------------- a folder


async def compare(extractor: WorkerExtractor, folder: Path) -> None:
    """Print for each kind of file how many were read whole, by ours and by each other library: of all different words that any of them found."""
    read: dict[str, Counter[str]] = defaultdict(Counter)
    worst: list[tuple[float, str, str]] = []
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        ending = path.suffix.lower()
        words = {"ours": await _ours(extractor, path)}
        words |= {name: _words(reader, path) for name, reader in _readers(ending)}
        everything = set[str]().union(*words.values())
        read[ending]["files"] += 1
        for name, found in words.items():
            share = len(found) / max(len(everything), 1)
            read[ending][name] += share >= 0.9 and bool(everything)
            if name == "ours" and share < 0.9 and everything:
                worst.append((share, str(path.relative_to(folder)), max(words, key=lambda one: len(words[one]))))
    for ending, counts in sorted(read.items()):
        others = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()) if name != "files")
        print(f"{ending or '(none)':<8} {counts['files']:>5} files; with nine in ten of all words: {others}")
    for share, name, best in sorted(worst)[:_MOST_SHOWN]:
        print(f"  {share:4.0%} {name} (most by {best})")


async def _ours(extractor: WorkerExtractor, path: Path) -> set[str]:
    try:
        return set(_WORD.findall((await extractor.text(_at(path), filename=path.name, tenant="acme")).casefold()))
    except UnreadableFile:
        return set()


def _words(reader: Reader, path: Path) -> set[str]:
    try:
        return set(_WORD.findall(reader(path).casefold()))
    except Exception:  # noqa: BLE001 — a library may raise anything on a broken file
        return set()


def _readers(ending: str) -> Iterator[tuple[str, Reader]]:
    for name, endings, make in _LIBRARIES:
        if ending in endings:
            try:
                yield name, make(importlib.import_module(name))
            except ModuleNotFoundError:
                continue


def _kreuzberg(library: Any) -> Reader:
    config = library.ExtractionConfig(use_cache=False, disable_ocr=True)
    return lambda path: str(library.extract_file_sync(str(path), config=config).content)


_OFFICE: Final = frozenset({".docx", ".pptx", ".xlsx", ".xls", ".doc", ".odt", ".ods", ".rtf", ".epub", ".eml", ".ipynb", ".html", ".pdf"})
_LIBRARIES: Final = (
    ("kreuzberg", _OFFICE, _kreuzberg),
    ("docx2python", frozenset({".docx"}), lambda library: lambda path: str(library.docx2python(str(path)).text)),
    ("mammoth", frozenset({".docx"}), lambda library: lambda path: str(library.extract_raw_text(path.open("rb")).value)),
    ("pypdf", frozenset({".pdf"}), lambda library: lambda path: "\n".join(page.extract_text() for page in library.PdfReader(path).pages)),
)


async def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=os.environ.get("DOCUMENTS"), help="compare what is read of the files below it")
    folder = parser.parse_args().folder
    print(describe())
    async with WorkerExtractor() as extractor:
        if folder is not None:
            await compare(extractor, Path(folder))
        with watched():
            await small_files(extractor)


if __name__ == "__main__":
    asyncio.run(main())
