"""The text of a PDF, by PDFium: that of its pages in their order, and what was typed into its form. A
part of `formats.py`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, BinaryIO, Final

import pypdfium2
import pypdfium2.raw as pdfium

from regate_adapters.files.text.marks import PAGE
from regate_adapters.files.text.plausible import is_gibberish, is_plain
from regate_adapters.files.text.unreadable import Unreadable, damaged, protected

_TYPED: Final = frozenset(
    {pdfium.FPDF_FORMFIELD_TEXTFIELD, pdfium.FPDF_FORMFIELD_COMBOBOX, pdfium.FPDF_FORMFIELD_LISTBOX}
)
_MAX_FIELD_BYTES: Final = 1024 * 1024
_CHARACTERS_ASKED: Final = 400
"""Of a page."""
_HYPHEN: Final = "\x02"
"""What PDFium writes for a hyphen at which it believes a word to be broken across lines."""


def pdf_text(file: BinaryIO) -> Iterator[str]:
    """Yield the text of each page, marked as one. Raises `Unreadable`, also when what is written on most
    pages is no text, whatever it looks like.
    """
    document = _opened(file.read())
    form = document.formenv.raw if document.init_forms() else None
    hidden, seen = 0, 0
    for number in range(len(document)):
        try:
            page = document[number]
        except pypdfium2.PdfiumError:  # a page that is damaged is no reason not to read the others
            continue
        text, is_mapped = _page_text(page)
        if is_gibberish(text) or not (is_mapped or is_plain(text)):
            hidden += 1
        elif text.strip():
            seen += 1
            yield PAGE + text.strip()
        if form is not None:
            yield from _typed(form, page)
        page.close()
    if hidden > seen:
        raise Unreadable(
            "invalid_file",
            "The file's fonts do not say which characters they show: print or export it anew, or scan it.",
        )


def _opened(data: bytes) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        raise (
            protected()
            if error.err_code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY)
            else damaged()
        ) from None


def _page_text(page: pypdfium2.PdfPage) -> tuple[str, bool]:
    """Return what is written on the page, and whether the fonts say of most of it which characters
    they show.
    """
    text = page.get_textpage()
    try:
        written: str = text.get_text_range()
        return written.replace(f"{_HYPHEN}\r\n", "").replace(_HYPHEN, "-"), _is_mapped(text)
    finally:
        text.close()


def _is_mapped(text: pypdfium2.PdfTextPage) -> bool:
    count = pdfium.FPDFText_CountChars(text)
    sample = range(0, count, count // _CHARACTERS_ASKED + 1)
    drawn = [place for place in sample if pdfium.FPDFText_IsGenerated(text, place) != 1]
    unmapped = [place for place in drawn if pdfium.FPDFText_HasUnicodeMapError(text, place) == 1]
    return 2 * len(unmapped) <= len(drawn)


def _typed(form: Any, page: pypdfium2.PdfPage) -> Iterator[str]:
    """Yield what people have put on the page: the values of fields, and text written freely."""
    for number in range(pdfium.FPDFPage_GetAnnotCount(page)):
        annotation = pdfium.FPDFPage_GetAnnot(page, number)
        if not annotation:
            continue
        try:
            kind = pdfium.FPDFAnnot_GetSubtype(annotation)
            if (
                kind == pdfium.FPDF_ANNOT_WIDGET
                and pdfium.FPDFAnnot_GetFormFieldType(form, annotation) in _TYPED
            ):
                yield _string(partial(pdfium.FPDFAnnot_GetFormFieldValue, form, annotation))
            elif kind == pdfium.FPDF_ANNOT_FREETEXT:
                yield _string(partial(pdfium.FPDFAnnot_GetStringValue, annotation, b"Contents"))
        finally:
            pdfium.FPDFPage_CloseAnnot(annotation)


def _string(get: Callable[[Any, int], int]) -> str:
    """Return a string that PDFium writes into a buffer, once it has said how long that must be."""
    size = min(get(None, 0), _MAX_FIELD_BYTES)
    if size <= 2:
        return ""
    buffer = ctypes.create_string_buffer(size)
    get(ctypes.cast(buffer, ctypes.POINTER(pdfium.FPDF_WCHAR)), size)
    return buffer.raw.decode("utf-16-le", errors="replace").rstrip("\x00")
