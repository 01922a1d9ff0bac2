"""Chunks that are sections or pages, through the real worker process."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import docx
import pytest
import pytest_asyncio
from tests.adapters.files import documents as make

from regate_adapters.files.readers.extract import WorkerExtractor
from regate_adapters.files.sections import sections
from regate_orchestrator.rows import Sections

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEADINGS, PAGES = Sections("heading", 100), Sections("page", 100)
LONG = " ".join(f"Sentence {number} says a little of the matter at hand." for number in range(40))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def extractor() -> AsyncIterator[WorkerExtractor]:
    async with WorkerExtractor() as started:
        yield started


class Files:
    def __init__(self, root: Path, extractor: WorkerExtractor) -> None:
        self._path = root / "file-1"
        self._extractor = extractor

    async def chunks(self, filename: str, data: bytes, wanted: Sections | None) -> list[str]:
        self._path.write_bytes(data)
        return await self._extractor.chunks(
            make.at(self._path),
            filename=filename,
            tenant="acme",
            max_tokens=200,
            overlap_tokens=100,
            sections=wanted,
        )


@pytest.fixture
def files(tmp_path: Path, extractor: WorkerExtractor) -> Files:
    return Files(tmp_path, extractor)


def document(*, style: str = "", localized: bool = False) -> bytes:
    """A Word document with text before its headings, a table below one, and two levels of them."""
    made = docx.Document()
    if localized:  # the style's id says nothing, its name does
        made.styles["Heading 1"].element.set(f"{made.element.nsmap['w'].join('{}')}styleId", "berschrift1")
    made.add_paragraph("Before all.")
    made.add_heading("Leave", 1)
    made.add_heading("Parental", 2)
    made.add_paragraph("Sixteen weeks.")
    made.add_table(1, 2).rows[0].cells[0].text = "Heading 1"
    last = made.add_paragraph("Pay", style="Heading 1")
    if style:
        own = made.styles.add_style(style, 1)
        own.base_style, last.style = made.styles["Heading 1"], own
    made.add_paragraph("Monthly.")
    out = io.BytesIO()
    made.save(out)
    return out.getvalue()


MARKDOWN = b"""---
title: not a heading
---
Before all.

# Leave #

## Parental

Sixteen weeks.

```
# a comment in code
```

Pay
===
- an item
---
Monthly.
"""
PAGE = b"""<title>Title</title><p>Before all.<h1>Leave</h1><div><h2><b>Parental</b></h2></div><p>Sixteen weeks.
<ul><li>one</ul><h1>Pay</h1>Monthly."""


@pytest.mark.parametrize(
    ("filename", "data", "chunks"),
    [
        (
            "a.md",
            MARKDOWN,
            [
                "---\ntitle: not a heading\n---\nBefore all.",
                "Leave > Parental\n\nSixteen weeks.\n\n```\n# a comment in code\n```",
                "Pay\n\n- an item\n---\nMonthly.",
            ],
        ),
        (
            "a.html",
            PAGE,
            ["Title\n\nBefore all.", "Leave > Parental\n\nSixteen weeks.\n\none", "Pay\n\nMonthly."],
        ),
        (
            "a.docx",
            document(),
            ["Before all.", "Leave > Parental\n\nSixteen weeks.\n\nHeading 1", "Pay\n\nMonthly."],
        ),
        (
            "a.docx",
            document(style="Chapter"),
            ["Before all.", "Leave > Parental\n\nSixteen weeks.\n\nHeading 1", "Pay\n\nMonthly."],
        ),
        (
            "a.docx",
            document(localized=True),
            ["Before all.", "Leave > Parental\n\nSixteen weeks.\n\nHeading 1", "Pay\n\nMonthly."],
        ),
    ],
    ids=["markdown", "html", "docx", "docx with a style of its own", "docx in another language"],
)
async def test_each_section_is_a_chunk_with_the_path_of_its_headings(
    files: Files, filename: str, data: bytes, chunks: list[str]
) -> None:
    assert await files.chunks(filename, data, HEADINGS) == chunks


async def test_each_page_or_slide_is_a_chunk(files: Files) -> None:
    pdf = make.joined_pdfs(make.pdf_bytes("Quarterly figures"), make.pdf_bytes("are confidential"))
    slides = await files.chunks("a.pptx", make.pptx_bytes("One", "Two", notes="said"), PAGES)

    assert await files.chunks("a.pdf", pdf, PAGES) == ["Quarterly figures", "are confidential"]
    assert [[name in slide for name in ("One", "Two", "said")] for slide in slides] == [
        [True, False, True],
        [False, True, True],
    ]


@pytest.mark.parametrize(
    ("filename", "data", "wanted"),
    [
        ("a.txt", LONG.encode(), HEADINGS),
        ("a.txt", f"# Leave\n\n{LONG}".encode(), HEADINGS),
        ("a.md", LONG.encode(), HEADINGS),
        ("a.html", LONG.encode(), HEADINGS),
        ("a.docx", make.docx_bytes(LONG), HEADINGS),
        ("a.md", f"# Leave\n\n{LONG}".encode(), PAGES),
        ("a.docx", document(), PAGES),
    ],
)
async def test_a_file_without_sections_is_split_as_it_always_was(
    files: Files, filename: str, data: bytes, wanted: Sections
) -> None:
    assert await files.chunks(filename, data, wanted) == await files.chunks(filename, data, None)


@pytest.mark.parametrize("filename", ["a.docx", "a.html", "a.pdf", "a.pptx"])
async def test_where_sections_are_not_wanted_no_mark_of_them_is_left(files: Files, filename: str) -> None:
    data = {
        "a.docx": document(),
        "a.html": PAGE,
        "a.pdf": make.pdf_bytes("figures"),
        "a.pptx": make.pptx_bytes("One"),
    }[filename]
    (text,) = await files.chunks(filename, data, None)

    assert text.strip()
    assert all(character >= " " or character in "\n\t" for character in text)


async def test_a_long_section_is_split_and_each_part_has_the_path(files: Files) -> None:
    chunks = await files.chunks(
        "a.md", f"# Leave\n\n## Parental\n\n{LONG}\n\n# Pay\n\nLast.".encode(), HEADINGS
    )

    assert len(chunks) > 3
    assert {chunk.startswith("Leave > Parental\n\nSentence") for chunk in chunks[:-1]} == {True}
    assert " ".join(chunk.removeprefix("Leave > Parental\n\n") for chunk in chunks[:-1]) == LONG
    assert chunks[-1] == "Pay\n\nLast."


async def test_a_long_page_is_split(files: Files) -> None:
    pdf = make.joined_pdfs(make.pdf_bytes(*LONG.split(". ")[:30]), make.pdf_bytes("Last"))
    chunks = await files.chunks("a.pdf", pdf, PAGES)

    assert len(chunks) > 2
    assert chunks[-1] == "Last"


async def test_no_heading_is_lost_that_does_not_fit_into_a_path(files: Files) -> None:
    deep = ["x" * 180 + f" {level}" for level in range(1, 7)]
    heads = "\n\n".join("#" * level + " " + title for level, title in enumerate(deep, 1))
    long = "Too long for a heading " + "word " * 60
    chunks = await files.chunks("a.md", f"{heads}\n\nText.\n\n# {long}\n\nBelow.".encode(), HEADINGS)
    lost = [
        words
        for words in (*deep, "Text.", "Too long", "Below.")
        if not any(words in chunk for chunk in chunks)
    ]

    assert lost == []


async def test_headings_of_a_level_that_was_left_out_are_below_the_next_higher() -> None:
    found = sections("# A\n### B\nb\n## C\nc\n# D", markdown=True)

    assert [(one.path, one.text) for one in found] == [
        (("A",), ""),
        (("A", "B"), "b"),
        (("A", "C"), "c"),
        (("D",), ""),
    ]
