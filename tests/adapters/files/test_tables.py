"""Tables in documents: rows stay rows, their cells apart, and what the columns are called stays with them."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pptx
import pytest
import pytest_asyncio
from tests.adapters.files import documents as make

from regate_adapters.files.readers.extract import WorkerExtractor

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEAD = ["City", "Days of leave", "Who says so"]
ROWS = [[f"Town {number}", str(20 + number), f"Agreement {number}"] for number in range(60)]
CELLS = [HEAD, *ROWS]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def extractor() -> AsyncIterator[WorkerExtractor]:
    async with WorkerExtractor() as started:
        yield started


def slide_bytes() -> bytes:
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[5])
    table = slide.shapes.add_table(len(CELLS), 3, 0, 0, 100, 100).table
    for row, cells in enumerate(CELLS):
        for column, text in enumerate(cells):
            table.cell(row, column).text = text
    out = io.BytesIO()
    presentation.save(out)
    return out.getvalue()


def page_bytes() -> bytes:
    rows = ["".join(f"<td>{text}</td>\n" for text in cells) for cells in ROWS]
    head = "".join(f"<th><p>{text}</p></th>" for text in HEAD)
    body = "".join(f"<tr>\n{row}</tr>\n" for row in rows)
    return f"<p>Before.<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>After.".encode()


def markdown() -> bytes:
    lines = ["| " + " | ".join(cells) + " |" for cells in CELLS]
    return "\n".join(["Before.", "", lines[0], "| --- | --: | --- |", *lines[1:], "", "After."]).encode()


FILES = {
    "a.docx": make.docx_bytes("Before.", table=CELLS),
    "a.pptx": slide_bytes(),
    "a.html": page_bytes(),
    "a.md": markdown(),
    "a.tsv": "\n".join("\t".join(cells) for cells in CELLS).encode(),
}


async def chunks(
    extractor: WorkerExtractor, tmp_path: Path, filename: str, data: bytes, max_tokens: int = 150
) -> list[str]:
    path = tmp_path / "file-1"
    path.write_bytes(data)
    return await extractor.chunks(
        make.at(path), filename=filename, tenant="acme", max_tokens=max_tokens, overlap_tokens=0
    )


@pytest.mark.parametrize("filename", FILES)
async def test_each_part_of_a_table_says_what_its_columns_are(
    extractor: WorkerExtractor, tmp_path: Path, filename: str
) -> None:
    found = await chunks(extractor, tmp_path, filename, FILES[filename])
    lines = [re.split(r"\t| *\| *", line.strip("| ")) for chunk in found for line in chunk.split("\n")]
    parts = [chunk for chunk in found if "Town" in chunk]

    assert len(parts) > 4
    assert [row for row in ROWS if row not in lines] == []
    assert [part for part in parts if part.index("Days of leave") > part.index("Town")] == []


@pytest.mark.parametrize("filename", FILES)
async def test_chunks_of_tables_are_no_longer_than_they_may_be(
    extractor: WorkerExtractor, tmp_path: Path, filename: str
) -> None:
    found = await chunks(extractor, tmp_path, filename, FILES[filename])
    again = [await chunks(extractor, tmp_path, "a.txt", chunk.encode()) for chunk in found]

    assert {len(one) for one in again} == {1}


async def test_rows_of_a_pdf_stay_lines(extractor: WorkerExtractor, tmp_path: Path) -> None:
    pdf = make.pdf_bytes(*(" ".join(cells) for cells in CELLS[:20]))
    (text,) = await chunks(extractor, tmp_path, "a.pdf", pdf, 800)

    assert text.split("\n") == [" ".join(cells) for cells in CELLS[:20]]


@pytest.mark.parametrize(
    ("page", "lines"),
    [
        ("<table><tr><td>a<td>b<tr><td>c<td>d</table>e", ["a\tb", "c\td", "e"]),
        ("<table><tr><td><p>a</p><p>b</p></td><td><ul><li>c</ul></td></tr></table>", ["a b\tc"]),
        (
            "<table><tr><td><h1>Page</h1><p>one<p>two<table><tr><td>a</td><td>b</td></tr></table>three</td></tr></table>",
            ["Page", "one", "two", "a\tb", "three"],
        ),
        ("</td></table><table></td><tr><td>a</td></td></tr></table></table><td>b</td>", ["a", "b"]),
    ],
)
async def test_cells_of_a_page_are_apart_and_its_layout_is_no_cell(
    extractor: WorkerExtractor, tmp_path: Path, page: str, lines: list[str]
) -> None:
    (text,) = await chunks(extractor, tmp_path, "a.html", page.encode(), 800)

    assert [line for line in text.split("\n") if line] == lines


async def test_tabs_in_source_code_are_no_table(extractor: WorkerExtractor, tmp_path: Path) -> None:
    code = "\n".join(f"name{number}\t= {number}" for number in range(100)).encode()
    found = await chunks(extractor, tmp_path, "a.go", code)

    assert sum(chunk.count("name0\t") for chunk in found) == 1


async def test_a_first_row_that_is_very_long_is_not_said_again(
    extractor: WorkerExtractor, tmp_path: Path
) -> None:
    head = "\t".join(f"A long name of column {number}" for number in range(20))
    table = "\n".join([head, *("\t".join(cells) for cells in ROWS)]).encode()
    found = await chunks(extractor, tmp_path, "a.tsv", table)

    assert sum(chunk.count("column 3") for chunk in found) == 1
