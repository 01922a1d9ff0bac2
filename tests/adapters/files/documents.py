"""Small real documents, and broken ones, made where they are needed."""

from __future__ import annotations

import io
import struct
import zipfile

import docx
import pptx
import pypdf
from tests.media import pdf_bytes


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


def with_member(archive: bytes, name: str, data: bytes) -> bytes:
    """The archive with one more member, packed as well as zip can."""
    out = io.BytesIO(archive)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        packed.writestr(name, data)
    return out.getvalue()


def with_document(archive: bytes, xml: bytes, *, declared_size: int | None = None) -> bytes:
    """The docx with another main part; `declared_size` is what the directory then lies about it."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
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
