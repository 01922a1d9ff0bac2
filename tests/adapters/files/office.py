"""Office documents, books and mails written part by part, with what word processors write and
libraries that write such files do not.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from email.message import EmailMessage
from typing import Final
from urllib.parse import quote

_XML: Final = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
_PACKAGE: Final = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
STRICT: Final = "http://purl.oclc.org/ooxml"
_SPACES: Final = {
    "w": "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "r": _OFFICE,
    "m": "http://schemas.openxmlformats.org/officeDocument/2006/math",
    "mc": "http://schemas.openxmlformats.org/markup-compatibility/2006",
    "wps": "http://schemas.microsoft.com/office/word/2010/wordprocessingShape",
    "v": "urn:schemas-microsoft-com:vml",
    "a": "http://schemas.openxmlformats.org/drawingml/2006/main",
    "c": "http://schemas.openxmlformats.org/drawingml/2006/chart",
    "dgm": "http://schemas.openxmlformats.org/drawingml/2006/diagram",
    "p": "http://schemas.openxmlformats.org/presentationml/2006/main",
    "s": "http://schemas.openxmlformats.org/spreadsheetml/2006/main",
}
_NAMES: Final = " ".join(f'xmlns:{prefix}="{space}"' for prefix, space in _SPACES.items())


def zipped(members: Mapping[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def part(root: str, content: str) -> str:
    return f"{_XML}<{root} {_NAMES}>{content}</{root}>"


def relations(*targets: tuple[str, str], base: str = _OFFICE) -> str:
    """The relationships of a part, `rId1` and on, each a type and a target."""
    rows = "".join(
        f'<Relationship Id="rId{n}" Type="{base}/{kind}" Target="{to}"/>'
        for n, (kind, to) in enumerate(targets, start=1)
    )
    return f'{_XML}<Relationships xmlns="{_PACKAGE}">{rows}</Relationships>'


def _types(*overrides: tuple[str, str]) -> str:
    rows = "".join(
        f'<Override PartName="/{name}" '
        f'ContentType="application/vnd.openxmlformats-officedocument.{kind}+xml"/>'
        for name, kind in overrides
    )
    return (
        f'{_XML}<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/>{rows}</Types>'
    )


def run(text: str) -> str:
    return f'<w:r><w:t xml:space="preserve">{text}</w:t></w:r>'


def paragraph(content: str, *, style: str = "") -> str:
    return f"<w:p>{f'<w:pPr><w:pStyle w:val={chr(34)}{style}{chr(34)}/></w:pPr>' if style else ''}{content}</w:p>"


_WORD_PARTS: Final = {
    "header1": ("header", "hdr"),
    "footer1": ("footer", "ftr"),
    "footnotes": ("footnotes", "footnotes"),
    "endnotes": ("endnotes", "endnotes"),
    "comments": ("comments", "comments"),
}


def docx(body: str, **parts: str) -> bytes:
    """A Word document of this body; other parts are named as their files, `chart1` and `data1` (of a
    diagram) among them.
    """
    named = {name: content for name, content in parts.items() if name in _WORD_PARTS}
    members = {
        f"word/{name}.xml": part(f"w:{_WORD_PARTS[name][1]}", content) for name, content in named.items()
    }
    related = [(_WORD_PARTS[name][0], f"{name}.xml") for name in named]
    if "chart1" in parts:
        members["word/charts/chart1.xml"] = part("c:chartSpace", parts["chart1"])
        related.append(("chart", "charts/chart1.xml"))
    if "data1" in parts:
        members["word/diagrams/data1.xml"] = part("dgm:dataModel", parts["data1"])
        related.append(("diagramData", "diagrams/data1.xml"))
    kinds = [
        (name, f"wordprocessingml.{name.split('/')[-1].rstrip('1.xml')}")
        for name in members
        if "/charts/" not in name and "/diagrams/" not in name
    ]
    kinds += [(name, "drawingml.chart") for name in members if "/charts/" in name]
    kinds += [(name, "drawingml.diagramData") for name in members if "/diagrams/" in name]
    return zipped(
        {
            "[Content_Types].xml": _types(("word/document.xml", "wordprocessingml.document.main"), *kinds),
            "_rels/.rels": relations(("officeDocument", "word/document.xml")),
            "word/document.xml": part("w:document", f"<w:body>{body}</w:body>"),
            "word/_rels/document.xml.rels": relations(*related),
            **members,
        }
    )


def strict_docx(text: str) -> bytes:
    """A document in the strict form of the standard, whose namespaces are others."""
    document = part("w:document", f"<w:body>{paragraph(run(text))}</w:body>").replace(
        _SPACES["w"], f"{STRICT}/wordprocessingml/main"
    )
    return zipped(
        {
            "[Content_Types].xml": _types(("word/document.xml", "wordprocessingml.document.main")),
            "_rels/.rels": relations(
                ("officeDocument", "word/document.xml"), base=f"{STRICT}/officeDocument/relationships"
            ),
            "word/document.xml": document,
        }
    )


def chart(*words: str) -> str:
    title = f"<c:title><c:tx><c:rich><a:p><a:r><a:t>{words[0]}</a:t></a:r></a:p></c:rich></c:tx></c:title>"
    points = "".join(f'<c:pt idx="{n}"><c:v>{word}</c:v></c:pt>' for n, word in enumerate(words[1:]))
    series = f"<c:ser><c:cat><c:strRef><c:f>Sheet1!A1</c:f><c:strCache>{points}</c:strCache></c:strRef></c:cat></c:ser>"
    return f"<c:chart>{title}<c:plotArea><c:barChart>{series}</c:barChart></c:plotArea></c:chart>"


def diagram(*words: str) -> str:
    points = "".join(
        f"<dgm:pt><dgm:t><a:p><a:r><a:t>{word}</a:t></a:r></a:p></dgm:t></dgm:pt>" for word in words
    )
    return f"<dgm:ptLst>{points}</dgm:ptLst>"


def pptx(shapes: str, *, notes: str = "", chart1: str = "", data1: str = "") -> bytes:
    """A presentation of one slide."""
    related = [("chart", "../charts/chart1.xml")] * bool(chart1) + [
        ("diagramData", "../diagrams/data1.xml")
    ] * bool(data1)
    related += [("notesSlide", "../notesSlides/notesSlide1.xml")] * bool(notes)
    members: dict[str, str] = {}
    if chart1:
        members["ppt/charts/chart1.xml"] = part("c:chartSpace", chart1)
    if data1:
        members["ppt/diagrams/data1.xml"] = part("dgm:dataModel", data1)
    if notes:
        members["ppt/notesSlides/notesSlide1.xml"] = part(
            "p:notes", f"<p:cSld><p:spTree>{shape(notes)}</p:spTree></p:cSld>"
        )
    return zipped(
        {
            "[Content_Types].xml": _types(
                ("ppt/presentation.xml", "presentationml.presentation.main"),
                ("ppt/slides/slide1.xml", "presentationml.slide"),
            ),
            "_rels/.rels": relations(("officeDocument", "ppt/presentation.xml")),
            "ppt/presentation.xml": part(
                "p:presentation", '<p:sldIdLst><p:sldId id="256" r:id="rId1"/></p:sldIdLst>'
            ),
            "ppt/_rels/presentation.xml.rels": relations(("slide", "slides/slide1.xml")),
            "ppt/slides/slide1.xml": part("p:sld", f"<p:cSld><p:spTree>{shapes}</p:spTree></p:cSld>"),
            "ppt/slides/_rels/slide1.xml.rels": relations(*related),
            **members,
        }
    )


def shape(text: str) -> str:
    return f"<p:sp><p:txBody><a:bodyPr/><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"


def xlsx(rows: list[list[str]], *, sheet: str = "Sheet1", printed: str = "") -> bytes:
    """A workbook of one sheet; cells are inline, but the first, which is a shared string."""
    shared = rows[0][0]
    cells = "".join(
        f'<row r="{y}">'
        + "".join(
            f'<c r="{chr(64 + x)}{y}" t="s"><v>0</v></c>'
            if (x, y) == (1, 1)
            else f'<c r="{chr(64 + x)}{y}" t="inlineStr"><is><t>{text}</t></is></c>'
            for x, text in enumerate(row, start=1)
        )
        + "</row>"
        for y, row in enumerate(rows, start=1)
    )
    above = f"<headerFooter><oddHeader>{printed}</oddHeader></headerFooter>" if printed else ""
    space = f'xmlns="{_SPACES["s"]}" xmlns:r="{_OFFICE}"'
    return zipped(
        {
            "[Content_Types].xml": _types(
                ("xl/workbook.xml", "spreadsheetml.sheet.main"),
                ("xl/worksheets/sheet1.xml", "spreadsheetml.worksheet"),
                ("xl/sharedStrings.xml", "spreadsheetml.sharedStrings"),
            ),
            "_rels/.rels": relations(("officeDocument", "xl/workbook.xml")),
            "xl/workbook.xml": (
                f'{_XML}<workbook {space}><sheets><sheet name="{sheet}" sheetId="1" '
                'r:id="rId1"/></sheets></workbook>'
            ),
            "xl/_rels/workbook.xml.rels": relations(
                ("worksheet", "worksheets/sheet1.xml"), ("sharedStrings", "sharedStrings.xml")
            ),
            "xl/worksheets/sheet1.xml": (
                f"{_XML}<worksheet {space}><sheetData>{cells}</sheetData>{above}</worksheet>"
            ),
            "xl/sharedStrings.xml": f"{_XML}<sst {space}><si><t>{shared}</t></si></sst>",
        }
    )


def opendocument(content: str, *, kind: str = "text") -> bytes:
    names = " ".join(
        f'xmlns:{one}="urn:oasis:names:tc:opendocument:xmlns:{one}:1.0"'
        for one in ("office", "text", "table", "draw", "presentation")
    )
    return zipped(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}",
            "content.xml": (
                f"{_XML}<office:document-content "
                f"{names}><office:body>{content}</office:body></office:document-content>"
            ),
            "META-INF/manifest.xml": (
                f"{_XML}<manifest:manifest "
                'xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">'
                '<manifest:file-entry manifest:full-path="/" '
                f'manifest:media-type="application/vnd.oasis.opendocument.{kind}"/>'
                '<manifest:file-entry manifest:full-path="content.xml" '
                'manifest:media-type="text/xml"/></manifest:manifest>'
            ),
        }
    )


def epub(*chapters: str, named: str = "") -> bytes:
    """A book whose chapters are not in the order of their names, all of which begin so."""
    names = [f"{named}{chr(122 - n)}.xhtml" for n in range(len(chapters))]
    items = "".join(
        f'<item id="c{n}" href="{quote(name)}" media-type="application/xhtml+xml"/>'
        for n, name in enumerate(names)
    )
    spine = "".join(f'<itemref idref="c{n}"/>' for n in range(len(names)))
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": (
                f'{_XML}<container version="1.0" '
                'xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
                '<rootfile full-path="OEBPS/book.opf" '
                'media-type="application/oebps-package+xml"/></rootfiles></container>'
            ),
            "OEBPS/book.opf": (
                f'{_XML}<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id">'
                '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:identifier '
                'id="id">x</dc:identifier><dc:title>The book</dc:title>'
                f"<dc:language>en</dc:language></metadata><manifest>{items}</manifest><spine>{spine}</spine></package>"
            ),
            **{
                f"OEBPS/{name}": (
                    f"{_XML}<html "
                    f'xmlns="http://www.w3.org/1999/xhtml"><head><title>unseen</title></head><body>{chapter}</body></html>'
                )
                for name, chapter in zip(names, chapters, strict=True)
            },
        }
    )


def mail(*, text: str = "", html: str = "", subject: str = "The subject", attached: str = "") -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Ann <ann@acme.example>", "bob@acme.example", subject
    if text:
        message.set_content(text, cte="base64")
    if html:
        message.add_alternative(html, subtype="html") if text else message.set_content(html, subtype="html")
    if attached:
        message.add_attachment(attached.encode(), maintype="text", subtype="plain", filename="notes.txt")
    return message.as_bytes()
