"""What somebody reads who opens a document is what is read of it, through the real worker: no word is
lost, and none is there that is not seen.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio
from tests.adapters.files import documents as make
from tests.adapters.files import office
from tests.adapters.files.office import (
    chart,
    diagram,
    docx,
    mail,
    opendocument,
    paragraph,
    part,
    pptx,
    run,
    shape,
    xlsx,
)

from regate_adapters.files.readers.extract import WorkerExtractor
from regate_orchestrator.ports import UnreadableFile

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def extractor() -> AsyncIterator[WorkerExtractor]:
    async with WorkerExtractor() as started:
        yield started


async def text_of(extractor: WorkerExtractor, filename: str, data: bytes) -> str:
    return await extractor.text(data, filename=filename, tenant="acme")


async def refusal_of(extractor: WorkerExtractor, filename: str, data: bytes) -> str:
    with pytest.raises(UnreadableFile) as refusal:
        await text_of(extractor, filename, data)
    return refusal.value.message


def box(text: str) -> str:
    return f"<w:txbxContent>{paragraph(run(text))}</w:txbxContent>"


def cell(text: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{paragraph(run(text))}</w:tc>"


DRAWN = (
    "<mc:Choice "
    f'Requires="wps"><w:drawing><wps:wsp><wps:txbx>{box("boxed")}</wps:txbx></wps:wsp></w:drawing></mc:Choice>'
)
OLDER = f"<w:pict><v:shape><v:textbox>{box('boxed')}</v:textbox></v:shape></w:pict>"
FIELD = "".join(
    f'<w:r><w:fldChar w:fldCharType="{kind}"/></w:r>' for kind in ("begin", "separate", "end")
).replace(
    '<w:r><w:fldChar w:fldCharType="separate"/></w:r>',
    '<w:r><w:instrText>CODE</w:instrText></w:r><w:r><w:fldChar w:fldCharType="separate"/></w:r>'
    + run("result"),
)


def math(text: str) -> str:
    return f"<m:r><m:t>{text}</m:t></m:r>"


def docx_with(*parts: tuple[str, str, bytes]) -> bytes:
    """A document that names these parts: the kind of each, its name, its bytes."""
    made = make.with_part(
        docx(paragraph(run("body"))),
        "word/_rels/document.xml.rels",
        office.relations(*(part[:2] for part in parts)).encode(),
    )
    for _, name, data in parts:
        made = make.with_member(made, f"word/{name}", data)
    return made


def xlsx_with(*parts: tuple[str, str, str]) -> bytes:
    """A workbook whose sheet names these parts."""
    made = xlsx([["cell"]], printed="&amp;L&amp;&quot;Arial,Bold&quot;&amp;12Confidential&amp;CPage &amp;P")
    made = make.with_member(
        made, "xl/worksheets/_rels/sheet1.xml.rels", office.relations(*(part[:2] for part in parts)).encode()
    )
    for _, name, content in parts:
        made = make.with_member(made, f"xl/{name.removeprefix('../')}", content.encode())
    return made


RTF = (
    rb"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0 Fontname;}}\f0 rich\b text\b0\par caf\'e9 "
    rb"\u1044?\par{\*\generator Maker;}}"
)
NOTEBOOK = {
    "nbformat": 4,
    "cells": [
        {"cell_type": "markdown", "source": ["# Title\n", "prose"]},
        {
            "cell_type": "code",
            "source": "print('code')",
            "outputs": [
                {"text": ["printed\n"]},
                {"data": {"image/png": "iVBORw0KGgo", "text/plain": ["<Figure>"]}},
            ],
        },
    ],
}
SPREADSHEET = "<office:spreadsheet><table:table><table:table-row>{}</table:table-row></table:table></office:spreadsheet>"
DELETED = "<text:tracked-changes><text:changed-region><text:deletion><text:p>gone</text:p></text:deletion></text:changed-region>"
DELETED += "</text:tracked-changes>"

DOCUMENTS: list[tuple[str, str, bytes, Sequence[str], Sequence[str]]] = [
    (
        "insertions under track changes",
        "a.docx",
        docx(
            paragraph(
                f'{run("kept")}<w:ins w:id="1">{run("inserted")}</w:ins><w:del '
                'w:id="2"><w:r><w:delText>gone</w:delText></w:r></w:del>'
            )
        ),
        ["kept", "inserted"],
        ["gone"],
    ),
    (
        "what was moved, where it is now",
        "a.docx",
        docx(
            paragraph(f'<w:moveFrom w:id="1">{run("moved")}</w:moveFrom>')
            + paragraph(f'<w:moveTo w:id="2">{run("here")}</w:moveTo>')
        ),
        ["here"],
        ["moved"],
    ),
    (
        "content controls",
        "a.docx",
        docx(
            f"<w:sdt><w:sdtContent>{paragraph(run('block'))}</w:sdtContent></w:sdt>"
            + paragraph(f"<w:sdt><w:sdtContent>{run('inline')}</w:sdtContent></w:sdt>")
        ),
        ["block", "inline"],
        [],
    ),
    (
        "smart tags",
        "a.docx",
        docx(paragraph(f"<w:smartTag><w:smartTag>{run('tagged')}</w:smartTag></w:smartTag>")),
        ["tagged"],
        [],
    ),
    (
        "simple fields and links",
        "a.docx",
        docx(
            paragraph(
                f'<w:fldSimple w:instr="DATE">{run("today")}</w:fldSimple><w:hyperlink '
                f'r:id="rId9">{run("link")}</w:hyperlink>'
            )
        ),
        ["today", "link"],
        ["DATE"],
    ),
    ("fields", "a.docx", docx(paragraph(FIELD)), ["result"], ["CODE"]),
    (
        "text boxes",
        "a.docx",
        docx(
            paragraph(
                f"<w:r><mc:AlternateContent>{DRAWN}<mc:Fallback>{OLDER}</mc:Fallback></mc:AlternateContent></w:r>"
            )
        ),
        ["boxed"],
        [],
    ),
    ("text boxes of older versions", "a.docx", docx(paragraph(f"<w:r>{OLDER}</w:r>")), ["boxed"], []),
    (
        "headers and footers",
        "a.docx",
        docx(paragraph(run("body")), header1=paragraph(run("above")), footer1=paragraph(run("below"))),
        ["body", "above", "below"],
        [],
    ),
    (
        "notes and comments",
        "a.docx",
        docx(
            paragraph(run("body")),
            footnotes=f'<w:footnote w:id="2">{paragraph(run("footnote"))}</w:footnote>',
            endnotes=f'<w:endnote w:id="2">{paragraph(run("endnote"))}</w:endnote>',
            comments=f'<w:comment w:id="0">{paragraph(run("comment"))}</w:comment>',
        ),
        ["body", "footnote", "endnote", "comment"],
        [],
    ),
    (
        "equations",
        "a.docx",
        docx(
            paragraph(
                "<m:oMath><m:sSup><m:e><m:r><m:t>base</m:t></m:r></m:e><m:sup><m:r><m:t>power</m:t></m:r></m:sup></m:sSup></m:oMath>"
            )
        ),
        ["base", "power"],
        [],
    ),
    (
        "fractions",
        "a.docx",
        docx(
            paragraph(
                f"<m:oMath><m:f><m:num>{math('above')}</m:num><m:den>{math('below')}</m:den></m:f></m:oMath>"
            )
        ),
        ["above", "below"],
        [],
    ),
    (
        "a box that stands in the middle of a word",
        "a.docx",
        docx(paragraph(run("know") + f"<w:r>{OLDER}</w:r>" + run("ledge")) + paragraph(run("after"))),
        ["knowledge\n\nboxed\n\nafter"],
        [],
    ),
    (
        "a document that breaks off within a box",
        "a.docx",
        docx(
            f"<w:p>{run('before')}<w:r><w:pict><v:textbox><w:txbxContent>{paragraph(run('boxed'))}</w:wrong>"
        ),
        ["before", "boxed"],
        [],
    ),
    (
        "a text that breaks off within a note",
        "a.odt",
        opendocument(
            "<office:text><text:p>before<text:note><text:note-body><text:p>noted</text:p></text:wrong>"
        ),
        ["before", "noted"],
        [],
    ),
    (
        "pages of other formats within a document",
        "a.docx",
        docx_with(
            ("aFChunk", "page.html", b"<html><p>of a page</p></html>"),
            ("aFChunk", "own.docx", docx(paragraph(run("of its own")))),
        ),
        ["of a page", "of its own"],
        [],
    ),
    (
        "charts",
        "a.docx",
        docx(paragraph(run("body")), chart1=chart("Sales", "North", "South")),
        ["body", "Sales", "North", "South"],
        ["Sheet1"],
    ),
    ("diagrams", "a.docx", docx(paragraph(run("body")), data1=diagram("Plan", "Act")), ["Plan", "Act"], []),
    ("the strict form of the standard", "a.docx", office.strict_docx("strict"), ["strict"], []),
    (
        "a row with a gap",
        "a.docx",
        docx(
            "<w:tbl><w:tblGrid><w:gridCol/></w:tblGrid><w:tr><w:trPr><w:gridBefore "
            f'w:val="1"/></w:trPr>{cell("after")}</w:tr></w:tbl>'
        ),
        ["after"],
        [],
    ),
    (
        "slides",
        "a.pptx",
        pptx(shape("slide"), notes="said", chart1=chart("Sales", "North"), data1=diagram("Plan")),
        ["slide", "said", "Sales", "North", "Plan"],
        [],
    ),
    (
        "workbooks",
        "a.xlsx",
        xlsx([["shared", "inline"], ["second", "row"]], sheet="Budget"),
        ["Budget", "shared\tinline", "second\trow"],
        [],
    ),
    (
        "workbooks, beside their cells",
        "a.xlsx",
        xlsx_with(
            (
                "comments",
                "../comments1.xml",
                part(
                    "comments",
                    "<commentList><comment><text><r><t>a comment</t></r></text></comment></commentList>",
                ),
            ),
            ("drawing", "../drawings/drawing1.xml", part("xdr", "<a:p><a:r><a:t>in a box</a:t></a:r></a:p>")),
            ("chart", "../charts/chart1.xml", part("c:chartSpace", chart("Sales", "North"))),
        ),
        ["cell", "a comment", "in a box", "Sales", "North", "Confidential", "Page"],
        ["Arial", "Sheet1!A1"],
    ),
    (
        "what is printed on each page of OpenDocument texts, and objects in them",
        "a.odt",
        make.with_member(
            make.with_member(
                opendocument("<office:text><text:p>body</text:p></office:text>"),
                "styles.xml",
                part(
                    "styles",
                    (
                        "<page><header><p>above "
                        "<title>???</title></p></header><footer><p>below</p></footer></page><other><p>unseen</p></other>"
                    ),
                ).encode(),
            ),
            "Object 1/content.xml",
            part("math", "<semantics><mi>formula</mi><annotation>over</annotation></semantics>").encode(),
        ),
        ["body", "above", "below", "formula"],
        ["???", "unseen", "over"],
    ),
    (
        "OpenDocument texts",
        "a.odt",
        opendocument(
            f"<office:text>{DELETED}<text:h>Title</text:h><text:p>some<text:s/>text</text:p></office:text>"
        ),
        ["Title", "some text"],
        ["gone"],
    ),
    (
        "OpenDocument spreadsheets",
        "a.ods",
        opendocument(
            SPREADSHEET.format("<table:table-cell><text:p>one</text:p></table:table-cell>" * 2),
            kind="spreadsheet",
        ),
        ["one\tone"],
        [],
    ),
    (
        "OpenDocument presentations",
        "a.odp",
        opendocument(
            "<office:presentation><draw:page><text:p>slide</text:p></draw:page></office:presentation>"
        ),
        ["slide"],
        [],
    ),
    (
        "letters that are codes in JSON",
        "a.jsonl",
        rb'{"city": "M\u00fcnchen \ud83d\ude00", "said": "\u0022\n\u0007", "path": "C:\\u00fc"}',
        ['{"city": "M\u00fcnchen \U0001f600", "said": "\\u0022\\n\\u0007", "path": "C:\\\\u00fc"}'],
        [],
    ),
    (
        "books",
        "a.epub",
        office.epub("<h1>First</h1><p>chapter</p>", "<p>Second</p>"),
        ["First\n\nchapter", "Second"],
        [],
    ),
    (
        "books whose chapters have names with blanks and other letters",
        "a.epub",
        office.epub("<p>First</p>", "<p>Second</p>", named="caf\u00e9 100% "),
        ["First", "Second"],
        [],
    ),
    (
        "notes, comments and boxes beside a paragraph of OpenDocument texts",
        "a.odt",
        opendocument(
            "<office:text><text:p>know<text:note><text:note-citation>7</text:note-citation><text:note-body>"
            "<text:p>footnote</text:p></text:note-body></text:note>ledge<office:annotation><creator>Ann</creator>"
            "<text:p>remark</text:p></office:annotation> is <draw:frame><draw:text-box><text:p>in a box</text:p>"
            "</draw:text-box></draw:frame>power</text:p><text:p>after</text:p></office:text>"
        ),
        ["knowledge is power\n\nfootnote\n\nremark\n\nin a box\n\nafter"],
        ["7", "Ann"],
    ),
    (
        "what a page shows in boxes of their own",
        "a.html",
        (
            b"<details><summary>Sum</summary>detail</details><fieldset><legend>Leg</legend>field</fieldset>"
            b"<textarea>area</textarea><button>one</button><button>two</button>"
        ),
        ["Sum\ndetail", "Leg\nfield", "area", "one\n\ntwo"],
        [],
    ),
    (
        "mails",
        "a.eml",
        mail(text="The body", subject="Gr\u00fc\u00dfe", attached="attached"),
        ["The body", "Subject: Gr\u00fc\u00dfe", "ann@acme.example", "notes.txt", "attached"],
        [],
    ),
    ("mails in HTML", "a.eml", mail(html="<p>The body</p><style>unseen</style>"), ["The body"], ["unseen"]),
    ("RTF", "a.rtf", RTF, ["richtext", "caf\u00e9 \u0414"], ["Fontname", "Maker"]),
    (
        "notebooks",
        "a.ipynb",
        json.dumps(NOTEBOOK).encode(),
        ["prose", "print('code')", "printed", "<Figure>"],
        ["iVBORw0KGgo"],
    ),
    (
        "Word 97",
        "a.doc",
        make.doc_bytes("Old words caf\u00e9\r", "\x13 INSTRUCTION \x14result\x15 \u65e5\u672c\r"),
        ["Old words caf\u00e9", "result \u65e5\u672c"],
        ["INSTRUCTION"],
    ),
    ("forms in PDF", "a.pdf", make.form_bytes("Name:", "Ann Example"), ["Name:", "Ann Example"], []),
    ("hyphens that nobody sees", "a.html", b"<p>soft&shy;hyphen</p>", ["softhyphen"], []),
    (
        "ligatures and shapes of letters",
        "a.txt",
        "\ufb01nal o\ufb03ce \ufe8d\ufedf\ufecc\ufeae\ufe91\ufef2\ufe94".encode(),
        ["final office", "\u0627\u0644\u0639\u0631\u0628\u064a\u0629"],
        [],
    ),
]


@pytest.mark.parametrize(
    ("filename", "data", "seen", "unseen"), [row[1:] for row in DOCUMENTS], ids=[row[0] for row in DOCUMENTS]
)
async def test_what_is_seen_is_read(
    extractor: WorkerExtractor, filename: str, data: bytes, seen: Sequence[str], unseen: Sequence[str]
) -> None:
    text = await text_of(extractor, filename, data)

    assert [word for word in seen if text.count(word) != 1] == []
    assert [word for word in unseen if word in text] == []


async def test_a_merged_cell_is_read_once(extractor: WorkerExtractor) -> None:
    row = cell("merged", '<w:gridSpan w:val="3"/>')

    assert (
        await text_of(
            extractor, "a.docx", docx(f"<w:tbl><w:tr>{row}</w:tr><w:tr>{cell('a')}{cell('b')}</w:tr></w:tbl>")
        )
        == "merged\n\na\tb"
    )


# ---------------------------------------------------------------- a part that is damaged


async def test_a_part_that_is_damaged_does_not_lose_the_others(extractor: WorkerExtractor) -> None:
    whole = docx(paragraph(run("the body")), header1=paragraph(run("above")))
    broken = make.with_part(whole, "word/header1.xml", part("w:hdr", paragraph(run("half"))).encode()[:-20])

    text = await text_of(extractor, "a.docx", broken)

    assert ("the body" in text, "half" in text) == (True, True)


async def test_what_is_never_unpacked_may_be_as_large_as_it_likes(extractor: WorkerExtractor) -> None:
    pictured = make.with_member(docx(paragraph(run("words"))), "word/media/white.bmp", b"\0" * 30_000_000)

    assert await text_of(extractor, "a.docx", pictured) == "words"


async def test_a_document_whose_relations_are_lost_is_read_by_the_names_of_its_parts(
    extractor: WorkerExtractor,
) -> None:
    assert (
        await text_of(extractor, "a.docx", make.with_part(docx(paragraph(run("words"))), "_rels/.rels", b""))
        == "words"
    )


# ---------------------------------------------------------------- encodings

SENTENCES = {
    "shift_jis": "\u5951\u7d04\u66f8\u306e\u6761\u9805\u306b\u95a2\u3059\u308b\u8cc7\u6599\u3067\u3059\u3002",
    "euc_jp": "\u5951\u7d04\u66f8\u306e\u6761\u9805\u306b\u95a2\u3059\u308b\u8cc7\u6599\u3067\u3059\u3002",
    "iso2022_jp": "\u5951\u7d04\u66f8\u306e\u6761\u9805\u306b\u95a2\u3059\u308b\u8cc7\u6599\u3067\u3059\u3002",
    "gbk": "\u5408\u540c\u6761\u6b3e\u548c\u4ed8\u6b3e\u8bf4\u660e\u3002",
    "big5": "\u5408\u7d04\u689d\u6b3e\u8207\u4ed8\u6b3e\u8aaa\u660e\u3002",
    "euc_kr": "\uacc4\uc57d \uc870\ud56d \ubc0f \uc9c0\ubd88 \uc548\ub0b4.",
    "cp1251": (
        "\u0414\u043e\u0433\u043e\u0432\u043e\u0440 \u0438 \u0443\u0441\u043b\u043e\u0432\u0438\u044f "
        "\u043e\u043f\u043b\u0430\u0442\u044b."
    ),
    "koi8_r": (
        "\u0414\u043e\u0433\u043e\u0432\u043e\u0440 \u0438 \u0443\u0441\u043b\u043e\u0432\u0438\u044f "
        "\u043e\u043f\u043b\u0430\u0442\u044b."
    ),
    "cp866": (
        "\u0414\u043e\u0433\u043e\u0432\u043e\u0440 \u0438 \u0443\u0441\u043b\u043e\u0432\u0438\u044f "
        "\u043e\u043f\u043b\u0430\u0442\u044b."
    ),
    "cp1253": (
        "\u0397 \u03c3\u03cd\u03bc\u03b2\u03b1\u03c3\u03b7 \u03ba\u03b1\u03b9 \u03bf\u03b9 "
        "\u03cc\u03c1\u03bf\u03b9."
    ),
    "cp1250": "Umowa i warunki p\u0142atno\u015bci s\u0105 nast\u0119puj\u0105ce.",
    "iso8859_2": "Umowa i warunki p\u0142atno\u015bci s\u0105 nast\u0119puj\u0105ce.",
    "cp1254": "S\u00f6zle\u015fme ve \u00f6deme ko\u015fullar\u0131 \u015f\u00f6yledir.",
    "cp1255": (
        "\u05d4\u05d7\u05d5\u05d6\u05d4 \u05d5\u05ea\u05e0\u05d0\u05d9 \u05d4\u05ea\u05e9\u05dc\u05d5\u05dd."
    ),
    "cp1256": "\u0627\u0644\u0639\u0642\u062f \u0648\u0634\u0631\u0648\u0637 \u0627\u0644\u062f\u0641\u0639.",
    "cp874": "\u0e2a\u0e31\u0e0d\u0e0d\u0e32\u0e41\u0e25\u0e30\u0e40\u0e07\u0e37\u0e48\u0e2d\u0e19\u0e44\u0e02",
    "cp1252": "Le caf\u00e9 est ferm\u00e9 \u00e0 No\u00ebl, d\u00e9j\u00e0.",
}


@pytest.mark.parametrize("encoding", SENTENCES)
@pytest.mark.parametrize("filename", ["a.csv", "a.txt"])
async def test_a_sentence_is_read_in_the_encoding_in_which_it_was_written(
    extractor: WorkerExtractor, filename: str, encoding: str
) -> None:
    assert await text_of(extractor, filename, SENTENCES[encoding].encode(encoding)) == SENTENCES[encoding]


@pytest.mark.parametrize(
    ("words", "encodings"),
    [
        ("Le caf\u00e9 ferm\u00e9 \u00e0 No\u00ebl", ("cp1252", "iso8859_1", "mac_roman")),
        (
            "pr\u00f3ximo a\u00f1o habr\u00e1 m\u00e1s informaci\u00f3n",
            ("cp1252", "iso8859_15", "utf_16_le", "utf_16_be"),
        ),
        ("Perch\u00e9 la societ\u00e0 \u00e8 gi\u00e0", ("cp1252", "iso8859_1")),
        (
            "gilt f\u00fcr \u00c4nderungen; n\u00f6tige Geb\u00fchren j\u00e4hrlich",
            ("cp1252", "mac_roman", "cp850", "utf_16_le"),
        ),
        ("As condi\u00e7\u00f5es n\u00e3o s\u00e3o aplic\u00e1veis", ("cp1252", "cp850")),
        ("ka\u017ed\u00e1 zm\u011bna je p\u0159\u00edli\u0161 pozd\u011b", ("cp1250", "iso8859_2", "cp852")),
        ("szerz\u0151d\u00e9s fizet\u00e9si felt\u00e9telek", ("cp1250", "iso8859_2")),
        ("uvjeti pla\u0107anja su sljede\u0107i", ("cp1250", "iso8859_2")),
        ("\u00f6deme ko\u015fullar\u0131 \u015f\u00f6yledir", ("cp1254", "iso8859_9")),
        (
            (
                "\u0414\u043e\u0433\u043e\u0432\u043e\u0440 \u043e\u043f\u043b\u0430\u0442\u044b "
                "\u0442\u043e\u0432\u0430\u0440\u043e\u0432"
            ),
            ("cp1251", "koi8_r", "mac_cyrillic"),
        ),
    ],
)
async def test_a_table_of_a_few_words_is_read_in_the_encoding_of_their_language(
    extractor: WorkerExtractor, words: str, encodings: Sequence[str]
) -> None:
    table = "id;name;amount\n" + "\n".join(
        f"{number};{word};{number * 3}" for number, word in enumerate(words.split())
    )

    assert {
        encoding: await text_of(extractor, "a.csv", table.encode(encoding)) for encoding in encodings
    } == dict.fromkeys(encodings, table)


async def test_a_word_of_two_characters_in_shift_jis_is_read(extractor: WorkerExtractor) -> None:
    assert await text_of(extractor, "a.csv", "\u5951\u7d04".encode("shift_jis")) == "\u5951\u7d04"


async def test_text_whose_encoding_cannot_be_told_is_refused_rather_than_guessed(
    extractor: WorkerExtractor,
) -> None:
    assert "save it as UTF-8" in await refusal_of(
        extractor, "a.txt", "Umowa \u017c\u00f3\u0142ta".encode("cp1250")
    )


async def test_a_page_is_read_in_the_encoding_that_it_declares_however_late(
    extractor: WorkerExtractor,
) -> None:
    page = (
        b"<html><head>"
        + b"<!-- preamble -->" * 1_000
        + b"<meta charset=koi8-r></head><p>"
        + "\u0442\u0435\u043a\u0441\u0442".encode("koi8-r")
    )

    assert await text_of(extractor, "a.html", page) == "\u0442\u0435\u043a\u0441\u0442"


# ---------------------------------------------------------------- what is no text, and reasons


@pytest.mark.parametrize("codes", ["\x01\x02\x03\x04\x05\x06", "'(6&5,37,21", "5(&20('$&,\u00cf1", "/,1(83"])
async def test_codes_of_a_font_that_does_not_say_its_characters_are_no_text(
    extractor: WorkerExtractor, codes: str
) -> None:
    message = await refusal_of(extractor, "a.pdf", make.coded_bytes(codes))

    assert "fonts do not say which characters" in message


async def test_codes_of_a_font_that_are_characters_are_text(extractor: WorkerExtractor) -> None:
    assert await text_of(extractor, "a.pdf", make.coded_bytes("Checklist")) == "Checklist"


async def test_a_pdf_of_which_most_pages_are_codes_is_not_read_in_part(extractor: WorkerExtractor) -> None:
    two_of_three = make.joined_pdfs(
        make.pdf_bytes("Readable"), make.coded_bytes("\x01\x02\x03\x04"), make.coded_bytes("\x05\x06\x07\x08")
    )
    one_of_two = make.joined_pdfs(make.pdf_bytes("Readable"), make.coded_bytes("\x01\x02\x03\x04"))

    assert "fonts do not say" in await refusal_of(extractor, "a.pdf", two_of_three)
    assert await text_of(extractor, "a.pdf", one_of_two) == "Readable"


async def test_characters_that_stand_for_what_could_not_be_read_are_no_text(
    extractor: WorkerExtractor,
) -> None:
    assert "cannot be read as text" in await refusal_of(extractor, "a.txt", ("\ufffd" * 10).encode())


@pytest.mark.parametrize("filename", ["a.docx", "a.pptx", "a.xlsx"])
async def test_a_password_is_named_as_the_reason(extractor: WorkerExtractor, filename: str) -> None:
    assert "protected by a password" in await refusal_of(
        extractor, filename, make.compound({"EncryptedPackage": b"x" * 5_000, "EncryptionInfo": b"y"})
    )


async def test_an_attachment_that_cannot_be_read_does_not_lose_the_mail(extractor: WorkerExtractor) -> None:
    raw = mail(text="The body", attached="x").replace(b"notes.txt", b"notes.docx")

    text = await text_of(extractor, "a.eml", raw)

    assert ("The body" in text, "notes.docx" in text) == (True, True)


async def test_a_mail_within_a_mail_is_read(extractor: WorkerExtractor) -> None:
    inner = base64.b64encode(mail(text="The inner body")).decode()
    outer = "\n".join(
        (
            *(
                "Subject: outer",
                "MIME-Version: 1.0",
                "Content-Type: multipart/mixed; boundary=b",
                "",
                "--b",
                "",
                "The outer body",
                "--b",
            ),
            *(
                "Content-Type: application/octet-stream; name=in.eml",
                "Content-Disposition: attachment; filename=in.eml",
            ),
            *("Content-Transfer-Encoding: base64", "", inner, "--b--", ""),
        )
    )

    text = await text_of(extractor, "a.eml", outer.encode())

    assert ("The outer body" in text, "The inner body" in text) == (True, True)


async def test_a_mail_that_was_forwarded_as_it_was_is_read(extractor: WorkerExtractor) -> None:
    head = (
        "Subject: outer\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nThe outer "
        "body\n--b\n"
    )
    forwarded = f"{head}Content-Type: message/rfc822\n\n{mail(text='The inner body').decode()}\n--b--\n"

    text = await text_of(extractor, "a.eml", forwarded.encode())

    assert ("The outer body" in text, "The inner body" in text) == (True, True)


def of_parts(kind: str, *parts: str) -> str:
    boundary = f"b{len(''.join(parts))}"
    lines = "".join(f"--{boundary}\n{part}\n" for part in parts)
    return f"Content-Type: multipart/{kind}; boundary={boundary}\n\n{lines}--{boundary}--\n"


PLAIN = "Content-Type: text/plain\n\n"
HTML = "Content-Type: text/html\n\n"
NOTES = 'Content-Type: text/plain; name="notes.txt"\nContent-Disposition: attachment\n\nattached'
UNKNOWN = 'Content-Type: text/x-patch; name="a.zzz"\nContent-Disposition: attachment\n\nattached'
PICTURE = 'Content-Type: image/png; name="a.png"\nContent-Disposition: inline\n\nx'
MAILS = {
    "text around a picture": (of_parts("mixed", f"{PLAIN}first", PICTURE, f"{PLAIN}second"), "first second"),
    "a file within one form of a text": (
        of_parts("alternative", f"{PLAIN}first", of_parts("mixed", f"{HTML}<p>other</p>", NOTES)),
        "first attached",
    ),
    "a file in a mail that is signed": (
        of_parts("signed", of_parts("mixed", f"{PLAIN}first", NOTES), "Content-Type: a/b; name=s.asc\n\nx"),
        "first attached",
    ),
    "a list's words below a mail": (
        of_parts("mixed", of_parts("alternative", f"{PLAIN}first", f"{HTML}other"), f"{PLAIN}second"),
        "first second",
    ),
    "a plain form that is empty": (of_parts("alternative", f"{PLAIN} \n", f"{HTML}<p>first</p>"), "first"),
    "a text of an unknown kind": (of_parts("mixed", f"{PLAIN}first", UNKNOWN), "first attached"),
    "what a saved page looks like": (
        of_parts(
            "related", f"{HTML}<p>first</p>", "Content-Type: text/css\nContent-Location: cid:a\n\nother"
        ),
        "first",
    ),
    "an invitation alone": (of_parts("alternative", "Content-Type: text/calendar\n\nfirst"), "first"),
}


@pytest.mark.parametrize("name", MAILS)
async def test_all_that_a_mail_shows_is_read_once(extractor: WorkerExtractor, name: str) -> None:
    raw, words = MAILS[name]

    text = await text_of(extractor, "a.eml", f"Subject: mail\nMIME-Version: 1.0\n{raw}".encode())

    assert [word for word in ("first", "other", "second", "attached") for _ in range(text.count(word))] == (
        words.split()
    )


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize(
    "said", ["", "Content-Type: text/plain\n", "Content-Type: text/plain; charset=us-ascii\n"]
)
async def test_a_mail_that_does_not_say_its_encoding_is_read(
    extractor: WorkerExtractor, said: str, encoding: str
) -> None:
    written = "Die Büros in München schließen früher, die Gäste hören es am Empfang."

    text = await text_of(extractor, "a.eml", f"Subject: x\n{said}\n{written}\n".encode(encoding))

    assert written in text


@pytest.mark.parametrize(
    ("said", "encoding"),
    [("utf-8", "utf-8"), ("iso-8859-1", "cp1252"), ("windows-1252", "cp1252"), ("us-ascii", "utf-8")],
)
async def test_letters_of_a_mail_that_are_not_encoded_are_read(
    extractor: WorkerExtractor, said: str, encoding: str
) -> None:
    raw = (
        f"Subject: Die Büros\n in München\nContent-Type: text/plain; charset={said}\n\nfür 5 € – und “mehr”\n"
    )

    text = await text_of(extractor, "a.eml", raw.encode(encoding))

    assert text == "Subject: Die Büros in München\n\nfür 5 € – und “mehr”"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
async def test_a_mail_that_was_saved_as_utf_16_is_read(extractor: WorkerExtractor, encoding: str) -> None:
    text = await text_of(extractor, "a.eml", "Subject: The subject\n\nThe body\n".encode(encoding))

    assert text == "Subject: The subject\n\nThe body"
