"""The text of workbooks, mails and notebooks, each by a library of the field. A part of `formats.py`."""

from __future__ import annotations

import codecs
import io
import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from email import message_from_bytes, policy
from email.message import EmailMessage, MIMEPart
from itertools import islice
from typing import Any, BinaryIO, Final

import olefile
import python_calamine

from regate_adapters.files.text.html_text import html_text
from regate_adapters.files.text.office_text import beside_cells, printed
from regate_adapters.files.text.packages import Package, refuse_protected
from regate_adapters.files.text.plain_text import decode
from regate_adapters.files.text.unreadable import Unreadable, damaged, protected

_FIRST_RECORDS: Final = 50
_LOCKED_RECORD: Final = 0x2F
_EXCEL_97: Final = b"\x00\x06"
_TEXT_OBJECT: Final = 0x1B6
_LENGTH_PLACE: Final = 12
_CONTINUED: Final = 0x3C
_PRINTED: Final = frozenset({0x14, 0x15})
_CHART_TEXT: Final = 0x100D
_FIRST_LINE: Final = 64
_BODIES: Final = frozenset({"text/plain", "text/html", "text/markdown", "text/calendar"})
_HEADERS: Final = ("From", "To", "Cc", "Date", "Subject")


def workbook_text(file: BinaryIO) -> Iterator[str]:
    """Yield each sheet: its name, and a line for each row with tabs between the cells."""
    refuse_protected(file)
    data = file.read()
    if data.startswith(b"PK"):
        package = Package(io.BytesIO(data))
        for name in package.named(r"xl/.*\.(xml|bin|rels)"):
            package.read(name)  # which refuses what unpacks to too much
    yield from _cells_of(data)
    yield from (
        beside_cells(Package(io.BytesIO(data))) if data.startswith(b"PK") else _beside_cells_of_older(data)
    )


def _cells_of(data: bytes) -> Iterator[str]:
    """Yield the names and rows of the sheets; one that is damaged does not lose the others."""
    try:
        workbook = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(data))
    except python_calamine.PasswordError:
        raise protected() from None
    except python_calamine.CalamineError:
        raise (protected() if _is_locked(data) else damaged()) from None
    rows, broken = 0, False
    for name in workbook.sheet_names:
        yield name
        try:
            for row in workbook.get_sheet_by_name(name).iter_rows():
                yield "\t".join(_cell(value) for value in row)
                rows += 1
        except python_calamine.CalamineError:
            broken = True
    if broken and not rows:
        raise damaged()


def _is_locked(data: bytes) -> bool:
    """Return whether a password protects a workbook of the older Excel: a record says so soon after
    its beginning.
    """
    return any(kind == _LOCKED_RECORD for kind, _ in islice(_records(data), _FIRST_RECORDS))


def _beside_cells_of_older(data: bytes) -> Iterator[str]:
    """Yield the text of boxes and comments, of charts, and of what is printed above and below a sheet."""
    length = 0
    for number, (kind, record) in enumerate(_records(data)):
        if number == 0 and record[:2] != _EXCEL_97:  # before, they are written in another way
            return
        if kind == _CONTINUED and length:
            yield _text_of_record(record, length)
        length = (
            struct.unpack_from("<H", record, 10)[0]
            if kind == _TEXT_OBJECT and len(record) > _LENGTH_PLACE
            else 0
        )
        if kind in _PRINTED and len(record) > 2:
            yield printed(_text_of_record(record[2:], struct.unpack_from("<H", record)[0]))
        elif kind == _CHART_TEXT and len(record) > 3:
            yield _text_of_record(record[3:], record[2])


def _text_of_record(record: bytes, length: int) -> str:
    """Return a text of so many characters: a byte says whether each takes two."""
    return (
        record[1 : 1 + 2 * length].decode("utf-16-le", "replace")
        if record[:1] == b"\x01"
        else record[1 : 1 + length].decode("latin-1")
    )


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the records of a workbook of the older Excel, each with its number."""
    try:
        with olefile.OleFileIO(io.BytesIO(data)) as compound:
            records = compound.openstream("Workbook" if compound.exists("Workbook") else "Book").read()
    except OSError:
        return
    place = 0
    while place + 4 <= len(records):
        kind, length = struct.unpack_from("<HH", records, place)
        yield kind, records[place + 4 : place + 4 + length]
        place += 4 + length


def _cell(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def notebook_text(file: BinaryIO) -> Iterator[str]:
    """Yield what stands in the cells, and what they put out as text: no pictures, which are base64."""
    text = decode(file.read())
    try:
        yield from list(_cells(json.loads(text)["cells"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        yield text  # it is not what its name says, but it is text


def _cells(cells: list[Mapping[str, Any]]) -> Iterator[str]:
    for cell in cells:
        yield _joined(cell["source"])
        for output in cell.get("outputs", ()):
            yield _joined(output.get("text", "")) or _joined(output.get("data", {}).get("text/plain", ""))


def _joined(lines: object) -> str:
    return "".join(str(line) for line in lines) if isinstance(lines, list) else str(lines)


def mail_text(file: BinaryIO, *, attached: Callable[[BinaryIO, str], str]) -> Iterator[str]:
    """Yield the mail's headers, its body, and of what is attached that which can be read."""
    data = file.read()
    if b"\0" in data[:_FIRST_LINE]:  # saved as UTF-16, of which a mail's headers know nothing
        data = decode(data).encode()
    message = message_from_bytes(data, policy=policy.default)
    if not isinstance(message, EmailMessage) or not message.keys():
        raise damaged()
    yield "\n".join(f"{name}: {_header(message, name)}" for name in _HEADERS if message[name])
    for part in _shown_parts(message):
        if _is_body(part):
            yield _body_text(part)
            continue
        name = part.get_filename() or ("mail.eml" if part.get_content_type() == "message/rfc822" else "")
        inner = part.get_payload()
        content = part.get_payload(decode=True)
        if isinstance(inner, list) and inner and not isinstance(inner[0], str):
            content = inner[0].as_bytes()
        try:
            yield f"{name}\n\n{attached(io.BytesIO(content), name)}" if isinstance(content, bytes) else name
        except Unreadable as error:
            is_text = name and error.code == "unsupported_file" and part.get_content_maintype() == "text"
            yield f"{name}\n\n{_body_text(part)}" if is_text else name


def _shown_parts(part: MIMEPart) -> list[MIMEPart]:
    """Return the parts of a mail that are shown, in their order: of several forms of one text, that in plain
    words unless it is empty, and what is attached to any of them.
    """
    if part.get_content_maintype() != "multipart" or not part.is_multipart():
        return [part]
    groups = [_shown_parts(one) for one in part.iter_parts() if isinstance(one, MIMEPart)]
    if part.get_content_subtype() == "alternative":
        best = next((one for kind in ("plain", "html") for one in groups if _has_text(one, kind)), None)
        if best is not None:
            groups = [one if one is best else [each for each in one if not _is_body(each)] for one in groups]
    return [one for group in groups for one in group]


def _has_text(form: Sequence[MIMEPart], kind: str) -> bool:
    texts = (one for one in form if _is_body(one) and one.get_content_subtype() == kind)
    return any(_body_text(one).strip() for one in texts)


def _is_body(part: MIMEPart) -> bool:
    """Return whether a part is a text of the mail itself: a file has a name, and what a page looks like is no
    text.
    """
    return part.get_content_type() in _BODIES and not part.get_filename()


def _header(message: EmailMessage, name: str) -> str:
    """Return what a header says, also one whose letters are written as they are, in whatever encoding."""
    written = next(str(value) for key, value in message.raw_items() if key.lower() == name.lower())
    if written.isascii():
        return str(message[name])
    data = written.encode("ascii", "surrogateescape")
    return " ".join(_decoded(data, message.get_content_charset("ascii")).split())


def _body_text(part: MIMEPart) -> str:
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        return ""
    written = _decoded(data, part.get_content_charset("ascii"))
    return html_text(written) if part.get_content_subtype() == "html" else written


def _decoded(data: bytes, encoding: str) -> str:
    """Return a text in the encoding that it says, or else in the one that it is most probably in. What says
    that it is Latin 1 has the quotes and dashes of Windows, as in browsers.
    """
    try:
        name = codecs.lookup(encoding).name
        return data.decode("cp1252" if name == "iso8859-1" else name)
    except (LookupError, UnicodeError):
        return decode(data)
