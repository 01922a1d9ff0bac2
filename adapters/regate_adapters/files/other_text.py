"""The text of workbooks, mails, notebooks, RTF and Word's older documents, each by a library of the field. A part of `formats.py`."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from email import message_from_bytes, policy
from email.message import EmailMessage, MIMEPart
from typing import Any, BinaryIO, Final

import olefile
import python_calamine
from striprtf.striprtf import rtf_to_text

from regate_adapters.files.html_text import html_text
from regate_adapters.files.packages import Package, refuse_protected
from regate_adapters.files.plain_text import decode
from regate_adapters.files.unreadable import Unreadable, damaged, protected

_HEADERS: Final = ("From", "To", "Cc", "Date", "Subject")


def workbook_text(file: BinaryIO) -> Iterator[str]:
    """Yield each sheet: its name, and a line for each row with tabs between the cells."""
    refuse_protected(file)
    data = file.read()
    if data.startswith(b"PK"):
        package = Package(io.BytesIO(data))
        for name in package.named(r"xl/.*\.(xml|bin|rels)"):
            package.read(name)  # which refuses what unpacks to too much
    try:
        workbook = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(data))
    except python_calamine.PasswordError:
        raise protected() from None
    except python_calamine.CalamineError:
        raise damaged() from None
    for name in workbook.sheet_names:
        yield name
        for row in workbook.get_sheet_by_name(name).iter_rows():
            yield "\t".join(_cell(value) for value in row)


def _cell(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def rtf_text(file: BinaryIO) -> Iterator[str]:
    """Yield the document's text."""
    data = file.read()
    if not data.lstrip().startswith(b"{\\rtf"):
        raise damaged()
    yield rtf_to_text(data.decode("latin-1"), encoding="cp1252", errors="replace")


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
    message = message_from_bytes(file.read(), policy=policy.default)
    if not isinstance(message, EmailMessage) or not message.keys():
        raise damaged()
    yield "\n".join(f"{name}: {message[name]}" for name in _HEADERS if message[name])
    body = message.get_body(("plain", "html"))
    if body is not None:
        content = _content(body)
        yield html_text(content) if body.get_content_subtype() == "html" else content
    for part in message.iter_attachments():
        name = part.get_filename() or ("mail.eml" if part.get_content_type() == "message/rfc822" else "")
        inner = part.get_payload()
        data = part.get_payload(decode=True)
        if isinstance(inner, list) and inner and not isinstance(inner[0], str):
            data = inner[0].as_bytes()
        try:
            yield f"{name}\n\n{attached(io.BytesIO(data), name)}" if isinstance(data, bytes) else name
        except Unreadable:
            yield name


def _content(part: MIMEPart) -> str:
    data = part.get_payload(decode=True)
    try:
        return str(part.get_content())
    except (LookupError, UnicodeError, KeyError):
        return decode(data) if isinstance(data, bytes) else ""


# ---------------------------------------------------------------- Word 97 to 2003

_TABLE_PLACE: Final = 0x01A2
_SPECIAL: Final = {7: "\t", 11: "\n", 12: "\n", 13: "\n\n", 30: "-", 31: "", 160: " "}


def doc_text(file: BinaryIO) -> Iterator[str]:
    """Yield the document's text, its notes and headers after it: the pieces of which the table in the file says where they lie."""
    try:
        with olefile.OleFileIO(file) as compound:
            main = compound.openstream("WordDocument").read()
            table = compound.openstream("1Table" if main[0x0B] & 2 else "0Table").read()
    except (OSError, IndexError):
        raise damaged() from None
    if main[0x0B] & 1:
        raise protected()
    try:
        yield _visible("".join(_pieces(main, table)))
    except struct.error:
        raise damaged() from None


def _pieces(main: bytes, table: bytes) -> Iterator[str]:
    start, size = struct.unpack_from("<II", main, _TABLE_PLACE)
    pieces = table[start : start + size]
    while pieces[:1] == b"\x01":  # properties, which stand before the pieces
        pieces = pieces[3 + struct.unpack_from("<H", pieces, 1)[0] :]
    (length,) = struct.unpack_from("<I", pieces, 1)
    count = (length - 4) // 12
    ends = struct.unpack_from(f"<{count + 1}I", pieces, 5)
    for number in range(count):
        (place,) = struct.unpack_from("<I", pieces, 5 + 4 * (count + 1) + 8 * number + 2)
        characters = ends[number + 1] - ends[number]
        if place & 0x40000000:
            begin = (place & 0x3FFFFFFF) // 2
            yield main[begin : begin + characters].decode("cp1252", errors="replace")
        else:
            yield main[place : place + 2 * characters].decode("utf-16-le", errors="replace")


def _visible(text: str) -> str:
    """Return the text without the instructions of fields, of which only the results are seen."""
    shown: list[str] = []
    instructions: list[bool] = []
    for character in text:
        code = ord(character)
        if code == 19:
            instructions.append(True)
        elif code == 20 and instructions:
            instructions[-1] = False
        elif code == 21 and instructions:
            instructions.pop()
        elif not any(instructions):
            shown.append(_SPECIAL.get(code, character if code >= 32 or character in "\t\n" else ""))
    return "".join(shown)
