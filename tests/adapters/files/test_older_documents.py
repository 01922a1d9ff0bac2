"""Documents of before Unicode, and files that have the name of another kind: what is read of each."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.adapters.files import documents as make
from tests.adapters.files.office import docx, mail, paragraph, run

from regate_adapters.files.readers.extract import WorkerExtractor
from regate_orchestrator.ports import UnreadableFile

pytestmark = pytest.mark.asyncio(loop_scope="module")

RUSSIAN = (
    "\u0414\u043e\u0433\u043e\u0432\u043e\u0440 \u0438 \u0443\u0441\u043b\u043e\u0432\u0438\u044f "
    "\u043e\u043f\u043b\u0430\u0442\u044b \u0442\u043e\u0432\u0430\u0440\u0430."
)
JAPANESE = "\u5951\u7d04\u66f8"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def extractor() -> AsyncIterator[WorkerExtractor]:
    async with WorkerExtractor() as started:
        yield started


async def text_of(extractor: WorkerExtractor, filename: str, data: bytes) -> str:
    return await extractor.text(data, filename=filename, tenant="acme")


def rtf(body: str | bytes) -> bytes:
    fonts = b"{\\fonttbl{\\f0\\fcharset0 Arial;}{\\f1\\fcharset204 Arial Cyr;}{\\f2\\fcharset128 Gothic;}}"
    return (
        b"{\\rtf1\\ansi\\ansicpg1252\\deff0"
        + fonts
        + (body if isinstance(body, bytes) else body.encode("ascii"))
        + b"}"
    )


def bytes_of(text: str, encoding: str) -> bytes:
    return "".join(f"\\'{byte:02x}" for byte in text.encode(encoding)).encode()


RTF = [
    (
        "the encoding of each font",
        rb"{\f1 " + bytes_of(RUSSIAN, "cp1251") + rb"}\par caf\'e9",
        f"{RUSSIAN}\n\ncaf\u00e9",
    ),
    (
        "two bytes for a character, each written in its own way",
        rb"\f2 " + bytes_of(JAPANESE, "cp932"),
        JAPANESE,
    ),
    (
        "Unicode, without what stands for it",
        rb"\uc1\u1044? \uc2\u24180\'94\'4e{\uc0\u228 a}",
        "\u0414 \u5e74\u00e4a",
    ),
    ("characters of two halves", rb"\u-10179?\u-8704?", "\U0001f600"),
    ("both ways of writing, once", rb"{\upr{ansi}{\*\ud{\u1044?}}}", "\u0414"),
    (
        "footnotes after the text, which they do not cut",
        rb"super{\super *}{\footnote the note}cali",
        "super*cali\n\nthe note",
    ),
    (
        "headers and comments",
        rb"{\header above}{\*\annotation{\*\atnid AB}remark}body",
        "body\n\nabove\n\nremark",
    ),
    ("results of fields", rb'{\field{\*\fldinst{HYPERLINK "x"}}{\fldrslt{link}}}', "link"),
    (
        "text boxes, once",
        rb"{\shp{\*\shpinst{\sp{\sn a}{\sv 1}}{\shptxt boxed}}{\shprslt boxed}}body",
        "body\n\nboxed",
    ),
    ("no deletions", rb"kept {\deleted gone}{\deleted0 too}", "kept too"),
    ("no pictures, whatever their bytes", rb"a{\pict\bin4 }}{{}b", "ab"),
    ("nested tables once", rb"{a\nestcell{\nonesttables fallback}}b\cell\row c", "a\tb\n\nc"),
    ("a star within a group", rb"{\i0\*\cs7 seen}", "seen"),
    ("signs", rb"\{a\~b\_c\-d\}\emdash e\line f", "{a b-cd}\u2014e\nf"),
    ("nothing after the end", rb"body} \'ff\'fe junk", "body"),
]


@pytest.mark.parametrize(("body", "text"), [row[1:] for row in RTF], ids=[row[0] for row in RTF])
async def test_rtf_is_read_as_it_is_seen(extractor: WorkerExtractor, body: bytes, text: str) -> None:
    assert (await text_of(extractor, "a.rtf", rtf(body))).replace("\t\n", "\n") == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (make.word_6_bytes(b"plain words\r"), "plain words"),
        (make.word_6_bytes(RUSSIAN.encode("cp1251"), language=0x0419), RUSSIAN),
        (make.word_6_bytes(RUSSIAN.encode("cp1251")), RUSSIAN),
        (
            make.word_6_bytes("caf\u00e9 d\u00e9j\u00e0".encode("mac_roman"), machine=256),
            "caf\u00e9 d\u00e9j\u00e0",
        ),
        (make.word_6_bytes(JAPANESE.encode("cp932"), language=0x0411), JAPANESE),
    ],
    ids=["plain", "language named", "language not named", "Macintosh", "two bytes a character"],
)
async def test_documents_of_word_6_are_read_in_the_encoding_that_they_name(
    extractor: WorkerExtractor, data: bytes, text: str
) -> None:
    assert await text_of(extractor, "a.doc", data) == text


OTHERS = {
    "docx": docx(paragraph(run("words"))),
    "rtf": rtf("words"),
    "html": b"<html><body><p>words</p></body></html>",
    "web archive": mail(html="<p>words</p>"),
    "doc": make.doc_bytes("words", ""),
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("ending", [".doc", ".docx", ".rtf"])
async def test_a_document_is_read_as_what_it_is_whichever_kind_its_name_says(
    extractor: WorkerExtractor, ending: str, kind: str
) -> None:
    assert "words" in await text_of(extractor, f"a{ending}", OTHERS[kind])


@pytest.mark.parametrize("kind", ["html", "web archive"])
async def test_a_workbook_that_is_a_page_is_read_as_one(extractor: WorkerExtractor, kind: str) -> None:
    assert "words" in await text_of(extractor, "export.xls", OTHERS[kind])


async def test_older_workbooks_are_read_with_what_stands_beside_their_cells(
    extractor: WorkerExtractor,
) -> None:
    data = make.xls_bytes(
        "a cell", box="in a b\u00f6x", above='&L&"Arial,Bold"Confidential', charted="of a chart"
    )

    assert (
        await text_of(extractor, "a.xls", data)
        == "Sheet1\n\na cell\n\nConfidential\n\nin a b\u00f6x\n\nof a chart"
    )


async def test_a_password_of_an_older_workbook_is_named_as_the_reason(extractor: WorkerExtractor) -> None:
    with pytest.raises(UnreadableFile, match="protected by a password"):
        await text_of(extractor, "a.xls", make.locked_xls_bytes())


async def test_a_document_older_than_word_6_is_named_as_what_it_is(extractor: WorkerExtractor) -> None:
    with pytest.raises(UnreadableFile, match=r"older than 6: save it as \.docx"):
        await text_of(extractor, "a.doc", b"\xdb\xa5\x2d\x00" + b"x" * 2_000)
