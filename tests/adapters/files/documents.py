"""Small real documents, and broken ones, made where they are needed."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import docx
import pptx
import pypdf
from tests.media import pdf_bytes, pdf_of


@asynccontextmanager
async def at(path: Path) -> AsyncIterator[Path]:
    """The place of a file, as a blob store on a disk yields it."""
    yield path


@contextmanager
def stuck(path: Path) -> Iterator[int]:
    """A file at this path that is read until it is told to end: yields where its bytes may be written."""
    os.mkfifo(path)
    writing = os.open(path, os.O_RDWR)
    try:
        yield writing
    finally:
        os.close(writing)


def docx_bytes(*paragraphs: str, table: list[list[str]] | None = None) -> bytes:
    document = docx.Document()
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    if table:
        made = document.add_table(rows=len(table), cols=len(table[0]))
        for row, cells in zip(made.rows, table, strict=True):
            for cell, text in zip(row.cells, cells, strict=True):
                cell.text = text
    document.add_paragraph("the end")
    return _saved(document)


def pptx_bytes(*titles: str, notes: str = "") -> bytes:
    presentation = pptx.Presentation()
    for title in titles:
        slide = presentation.slides.add_slide(presentation.slide_layouts[5])
        slide.shapes.title.text = title
        group = slide.shapes.add_group_shape()
        group.shapes.add_textbox(0, 0, 100, 100).text_frame.text = f"inside a group: {title}"
        table = slide.shapes.add_table(1, 2, 0, 0, 100, 100).table
        table.cell(0, 0).text, table.cell(0, 1).text = "left", "right"
        if notes:
            slide.notes_slide.notes_text_frame.text = notes
    return _saved(presentation)


def encrypted_pdf_bytes(*, user_password: str) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf_bytes("locked away")))
    writer.encrypt(user_password=user_password, owner_password="owner", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def form_bytes(label: str, typed: str) -> bytes:
    """A PDF with a text field, and what somebody typed into it; the page does not show it by itself."""
    stream = f"BT /F1 12 Tf 72 720 Td ({label}) Tj ET".encode("latin-1")
    return pdf_of(
        [
            b"<< /Type /Catalog /Pages 2 0 R /AcroForm << /Fields [6 0 R] >> >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            (
                b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Annots [6 0 R] "
                b"/Resources << /Font << /F1 5 0 R >> >> >>"
            ),
            b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            (
                f"<< /Type /Annot /Subtype /Widget /FT /Tx /T (name) /V ({typed}) /Rect [150 700 300 720] >>"
            ).encode("latin-1"),
        ]
    )


def joined_pdfs(*files: bytes) -> bytes:
    """The pages of all, in a PDF."""
    writer = pypdf.PdfWriter()
    for file in files:
        writer.append(io.BytesIO(file))
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def coded_bytes(codes: str) -> bytes:
    """A PDF whose font has glyphs at these codes and does not say which characters they show."""
    stream = f"BT /F1 12 Tf 72 720 Td <{codes.encode('latin-1').hex()}> Tj ET".encode("latin-1")
    names = " ".join(f"/g{ord(code)}" for code in codes)
    widths = " ".join("600" for _ in codes)
    procedures = " ".join(f"/g{ord(code)} 6 0 R" for code in codes)
    font = (
        "<< /Type /Font /Subtype /Type3 /FontBBox [0 0 600 600] /FontMatrix [0.001 0 0 0.001 0 0] "
        f"/FirstChar {ord(codes[0])} "
        f"/LastChar {ord(codes[-1])} /Widths [{widths}] /CharProcs << {procedures} >> "
        f"/Encoding << /Type /Encoding /Differences [{ord(codes[0])} {names}] >> >>"
    )
    drawn = b"600 0 0 0 600 600 d1 0 0 500 500 re f"
    return pdf_of(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            (
                b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font "
                b"<< /F1 5 0 R >> >> >>"
            ),
            b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
            font.encode("latin-1"),
            b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn),
        ]
    )


_SECTOR = 512
_FREE, _END, _TABLE = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD


def compound(streams: Mapping[str, bytes]) -> bytes:
    """A compound file, as older Office documents are: streams in sectors, none so small that it would
    need the other kind.
    """
    padded = {
        name: data.ljust(-(-max(len(data), 4_096) // _SECTOR) * _SECTOR, b"\0")
        for name, data in streams.items()
    }
    directory_sectors = -(-(len(streams) + 1) * 128 // _SECTOR)
    table = [_TABLE, *range(2, directory_sectors + 1), _END]
    entries = [_entry("Root Entry", 5, child=1, start=_END, size=0)]
    for number, (name, data) in enumerate(padded.items(), start=1):
        start = len(table)
        table += [*range(start + 1, start + len(data) // _SECTOR), _END]
        entries.append(
            _entry(name, 2, right=number + 1 if number < len(padded) else _FREE, start=start, size=len(data))
        )
    head = struct.pack(
        "<8s16sHHHHH6xIIIIIIIII",
        bytes.fromhex("d0cf11e0a1b11ae1"),
        b"",
        0x3E,
        3,
        0xFFFE,
        9,
        6,
        0,
        1,
        1,
        0,
        4_096,
        _END,
        0,
        _END,
        0,
    )
    head += struct.pack("<109I", 0, *[_FREE] * 108)
    fat = struct.pack(f"<{_SECTOR // 4}I", *table, *[_FREE] * (_SECTOR // 4 - len(table)))
    return (
        head + fat + b"".join(entries).ljust(directory_sectors * _SECTOR, b"\0") + b"".join(padded.values())
    )


def _entry(name: str, kind: int, *, right: int = _FREE, child: int = _FREE, start: int, size: int) -> bytes:
    encoded = name.encode("utf-16-le") + b"\0\0"
    return struct.pack("<64sHBBIII36xIQ", encoded, len(encoded), kind, 1, _FREE, right, child, start, size)


def doc_bytes(first: str, second: str) -> bytes:
    """A document of Word 97: two pieces of text, one in Windows-1252 and one in UTF-16."""
    narrow, wide = first.encode("cp1252"), second.encode("utf-16-le")
    begin = 0x600
    places = struct.pack("<HIHHIH", 0, begin * 2 | 0x40000000, 0, 0, begin + len(narrow), 0)
    ends = struct.pack("<3I", 0, len(first), len(first) + len(second))
    pieces = b"\x02" + struct.pack("<I", len(ends + places)) + ends + places
    main = bytearray(begin)
    struct.pack_into("<H", main, 0, 0xA5EC)
    main[0x0B] = 2
    struct.pack_into("<II", main, 0x01A2, 0, len(pieces))
    return compound({"WordDocument": bytes(main) + narrow + wide, "1Table": pieces})


def word_6_bytes(text: bytes, *, language: int = 0x0409, machine: int = 0) -> bytes:
    """A document of Word 6, in the encoding of the machine and the language that it names."""
    begin = 0x300
    main = bytearray(begin)
    struct.pack_into("<HHHH", main, 0, 0xA5DC, 101, 0, language)
    struct.pack_into("<H", main, 0x14, machine)
    struct.pack_into("<II", main, 0x18, begin, begin + len(text))
    return compound({"WordDocument": bytes(main) + text})


def xls_bytes(cell: str, *, box: str, above: str, charted: str) -> bytes:
    """A workbook of Excel 97: a cell, a text box, what is printed above, and a title of a chart."""

    def record(kind: int, data: bytes) -> bytes:
        return struct.pack("<HH", kind, len(data)) + data

    begin = struct.pack("<HHHHII", 0x0600, 5, 0, 0, 0, 0)
    sheet = b"".join(
        (
            record(0x0809, struct.pack("<HHHHII", 0x0600, 0x10, 0, 0, 0, 0)),
            record(0x0204, struct.pack("<HHHHB", 0, 0, 0, len(cell), 0) + cell.encode("latin-1")),
            record(0x0014, struct.pack("<HB", len(above), 0) + above.encode("latin-1")),
            record(0x01B6, struct.pack("<10xHH4x", len(box), 16)),
            record(0x003C, b"\x01" + box.encode("utf-16-le")),
            record(0x003C, bytes(16)),
            record(0x100D, struct.pack("<HBB", 0, len(charted), 0) + charted.encode("latin-1")),
            record(0x000A, b""),
        )
    )
    end = record(0x000A, b"")
    name = b"\x06\0Sheet1"
    first = len(record(0x0809, begin)) + len(record(0x0085, bytes(6) + name)) + len(end)
    book = record(0x0809, begin) + record(0x0085, struct.pack("<IBB", first, 0, 0) + name) + end
    return compound({"Workbook": book + sheet})


def locked_xls_bytes() -> bytes:
    """A workbook of the older Excel that a password protects: a record says so after the first."""
    records = struct.pack("<HHHHHHII", 0x0809, 16, 0x0600, 5, 0, 0, 0, 0) + struct.pack(
        "<HHHHH", 0x2F, 6, 1, 1, 1
    )
    return compound({"Workbook": records + b"x" * 5_000})


def with_part(archive: bytes, name: str, content: bytes) -> bytes:
    """The archive with another content of one of its parts."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, content if member.filename == name else old.read(member))
    return out.getvalue()


def with_member(archive: bytes, name: str, data: bytes) -> bytes:
    """The archive with one more member, packed as well as zip can."""
    out = io.BytesIO(archive)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        packed.writestr(name, data)
    return out.getvalue()


def with_document(archive: bytes, xml: bytes, *, declared_size: int | None = None) -> bytes:
    """The docx with another main part; `declared_size` is what the directory then lies about it."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(archive)) as old,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new,
    ):
        for member in old.infolist():
            new.writestr(member.filename, xml if member.filename == "word/document.xml" else old.read(member))
    data = bytearray(out.getvalue())
    if declared_size is not None:
        place = data.index(b"PK\x01\x02", 0)
        while data[place + 46 : place + 46 + len("word/document.xml")] != b"word/document.xml":
            place = data.index(b"PK\x01\x02", place + 4)
        struct.pack_into("<I", data, place + 24, declared_size)
    return bytes(data)


def _saved(document: object) -> bytes:
    out = io.BytesIO()
    document.save(out)  # type: ignore[attr-defined]
    return out.getvalue()
