"""Files made to harm whoever reads them, through the real worker process: each ends with a reason, in
time, and within memory.
"""

from __future__ import annotations

import asyncio
import io
import os
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from tests.adapters.files import documents as make

from regate_adapters.files.readers.extract import WorkerExtractor, WorkerLimits
from regate_orchestrator.ports import UnreadableFile

LIMITS = WorkerLimits(wall_s=60.0, cpu_s=3, memory_bytes=768 * 1024 * 1024)
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def extractor() -> AsyncIterator[WorkerExtractor]:
    async with WorkerExtractor(limits=LIMITS) as started:
        yield started


async def outcome(extractor: WorkerExtractor, path: Path, filename: str, data: bytes) -> str:
    """The code with which reading ended, or how much was read."""
    path.write_bytes(data)
    try:
        text = await extractor.text(make.at(path), filename=filename, tenant="acme")
    except UnreadableFile as refusal:
        return refusal.code if refusal.message else "no reason"
    return f"{len(text)} characters"


# ---------------------------------------------------------------- PDF


def pdf(*objects: bytes) -> bytes:
    """A PDF of these objects; the first is the catalogue."""
    body, places = b"%PDF-1.7\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(body))
    return body + b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + table + trailer


def stream(data: bytes, extra: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(data), extra, data)


def page_of(content: bytes) -> bytes:
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
    page = (
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 1 1] /Contents 4 0 R /Resources << /Font << /F1 5 0 "
        b"R >> >> >>"
    )
    return pdf(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        page,
        content,
        font,
    )


def pdf_stream_bomb() -> bytes:
    """A page whose content has 2 GB when it is unpacked, in two layers."""
    inner = zlib.compress(b" " * 200_000_000, 9)
    return page_of(stream(zlib.compress(inner, 9), b"/Filter [/FlateDecode /FlateDecode]"))


def pdf_layered_bomb() -> bytes:
    data = b"x" * 5_000_000
    for _ in range(60):
        data = zlib.compress(data, 9)
    return page_of(stream(data, b"/Filter [" + b"/FlateDecode " * 60 + b"]"))


def pdf_text_bomb() -> bytes:
    """A page that shows 20 million characters."""
    return page_of(
        stream(
            zlib.compress(b"BT /F1 1 Tf " + b"(xxxxxxxxxxxxxxxxxxxx) Tj 0 -1 Td " * 1_000_000 + b"ET", 9),
            b"/Filter /FlateDecode",
        )
    )


def pdf_huge_page_tree() -> bytes:
    """A million pages, of which all are one."""
    kids = b"3 0 R " * 1_000_000
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 1 1] >>"
    return pdf(
        b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [%s] /Count 1000000 >>" % kids, page
    )


def pdf_page_tree_in_a_circle() -> bytes:
    return pdf(b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 2 >>")


def pdf_deep_page_tree() -> bytes:
    nodes = [b"<< /Type /Pages /Kids [%d 0 R] /Count 1 >>" % (number + 3) for number in range(20_000)]
    return pdf(b"<< /Type /Catalog /Pages 2 0 R >>", *nodes, b"<< /Type /Page /MediaBox [0 0 1 1] >>")


def pdf_deep_array() -> bytes:
    return pdf(
        b"<< /Type /Catalog /Pages 2 0 R /X " + b"[" * 200_000 + b"]" * 200_000 + b" >>",
        b"<< /Type /Pages /Kids [] /Count 0 >>",
    )


def pdf_reference_to_itself() -> bytes:
    return pdf(b"<< /Type /Catalog /Pages 2 0 R >>", b"2 0 R")


def pdf_form_within_itself() -> bytes:
    """A page that shows a form which shows itself."""
    form = stream(
        b"/F Do", b"/Type /XObject /Subtype /Form /BBox [0 0 1 1] /Resources << /XObject << /F 5 0 R >> >>"
    )
    page = (
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 1 1] /Contents 4 0 R /Resources << /XObject << /F 5 "
        b"0 R >> >> >>"
    )
    tree = b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
    return pdf(b"<< /Type /Catalog /Pages 2 0 R >>", tree, page, stream(b"/F Do"), form)


# ---------------------------------------------------------------- Office


def docx(xml: bytes) -> bytes:
    return make.with_document(make.docx_bytes("x"), xml)


def docx_of(body: str) -> bytes:
    return docx(f'<?xml version="1.0"?><w:document {W}><w:body>{body}</w:body></w:document>'.encode())


def docx_deep_elements() -> bytes:
    return docx_of("<w:sdt><w:sdtContent>" * 100_000 + "</w:sdtContent></w:sdt>" * 100_000)


def docx_tables_within_tables() -> bytes:
    return docx_of("<w:tbl><w:tr><w:tc>" * 60 + "<w:p/>" + "</w:tc></w:tr></w:tbl>" * 60)


def docx_million_paragraphs() -> bytes:
    paragraphs = "".join(
        f"<w:p><w:r><w:t>{number:x} {'word ' * 5}</w:t></w:r></w:p>" for number in range(400_000)
    )
    return docx_of(paragraphs)


def docx_million_attributes() -> bytes:
    return docx_of(
        "<w:p "
        + " ".join(f'a{number:x}="{number * 2_654_435_761 % 2**32:x}"' for number in range(500_000))
        + "/>"
    )


def docx_quadratic_entities() -> bytes:
    entity = "x" * 50_000
    xml = (
        f'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY e "{entity}">]><w:document '
        f"{W}><w:body>{'<w:p><w:r><w:t>&e;</w:t></w:r></w:p>' * 20_000}"
    )
    return docx((xml + "</w:body></w:document>").encode())


def docx_many_members() -> bytes:
    out = io.BytesIO(make.docx_bytes("x"))
    with zipfile.ZipFile(out, "a") as archive:
        for number in range(11_000):
            archive.writestr(f"media/{number}", b"")
    return out.getvalue()


def docx_overlapping_members() -> bytes:
    """All members are one and the same data: a bomb that no ratio of a single member shows."""
    kernel = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = kernel.compress(b"\0" * 180_000) + kernel.flush()
    checksum = zlib.crc32(b"\0" * 180_000)
    local = (
        b"PK\x03\x04\x14\0\0\0\x08\0\0\0\0\0"
        + b"".join(number.to_bytes(4, "little") for number in (checksum, len(packed), 180_000))
        + b"\x01\0\0\0a"
        + packed
    )
    entries = b""
    for number in range(9_000):
        name = b"m%d" % number
        sizes = b"".join(value.to_bytes(4, "little") for value in (checksum, len(packed), 180_000))
        entries += (
            b"PK\x01\x02\x14\0\x14\0\0\0\x08\0\0\0\0\0"
            + sizes
            + len(name).to_bytes(2, "little")
            + b"\0" * 12
            + b"\0\0\0\0"
            + name
        )
    end = (
        b"PK\x05\x06\0\0\0\0"
        + (9_000).to_bytes(2, "little") * 2
        + len(entries).to_bytes(4, "little")
        + len(local).to_bytes(4, "little")
    )
    return local + entries + end + b"\0\0"


def docx_encrypted() -> bytes:
    data = bytearray(make.docx_bytes("x"))
    place = data.index(b"PK\x01\x02")
    data[place + 8] |= 1
    return bytes(data)


def office_password() -> bytes:
    """What Office writes for a document with a password: no zip at all, but a compound file."""
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 4_000


def pptx_groups_within_groups() -> bytes:
    whole = make.pptx_bytes("x")
    out = io.BytesIO()
    group = b"<p:grpSp><p:nvGrpSpPr/><p:grpSpPr/>"
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            data = old.read(member)
            if member.filename == "ppt/slides/slide1.xml":
                data = data.replace(b"</p:spTree>", group * 100 + b"</p:grpSp>" * 100 + b"</p:spTree>")
            new.writestr(member.filename, data)
    return out.getvalue()


# ---------------------------------------------------------------- text


def html_unclosed_comments() -> bytes:
    return b"<!--" * 500_000


def html_entities() -> bytes:
    return b"&amp" * 1_000_000 + b"&" * 1_000_000


def json_deep() -> bytes:
    return b"[" * 3_000_000


def xml_laughs() -> bytes:
    levels = "".join(f'<!ENTITY e{level} "{f"&e{level - 1};" * 10}">' for level in range(1, 10))
    return f'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY e0 "laughs">{levels}]><d>&e9;</d>'.encode()


REFUSED: list[tuple[str, Callable[[], bytes], str]] = [
    ("a.pdf", pdf_stream_bomb, "invalid_file"),
    ("a.pdf", pdf_text_bomb, "invalid_file"),
    ("a.pdf", pdf_huge_page_tree, "invalid_file"),
    ("a.pdf", pdf_page_tree_in_a_circle, "invalid_file"),
    ("a.pdf", pdf_deep_page_tree, "invalid_file"),
    ("a.pdf", pdf_deep_array, "invalid_file"),
    ("a.pdf", pdf_reference_to_itself, "invalid_file"),
    ("a.pdf", pdf_form_within_itself, "invalid_file"),
    ("a.pdf", lambda: make.encrypted_pdf_bytes(user_password="secret"), "invalid_file"),
    ("a.docx", docx_deep_elements, "invalid_file"),
    ("a.docx", docx_quadratic_entities, "invalid_file"),
    ("a.docx", docx_many_members, "invalid_file"),
    ("a.docx", docx_overlapping_members, "invalid_file"),
    ("a.docx", docx_encrypted, "invalid_file"),
    ("a.docx", office_password, "invalid_file"),
    ("a.docx", docx_tables_within_tables, "invalid_file"),
    ("a.pptx", docx_overlapping_members, "invalid_file"),
    ("a.html", html_unclosed_comments, "invalid_file"),
    ("a.zip", lambda: make.docx_bytes("x"), "unsupported_file"),
    ("a.gz", lambda: zlib.compress(b"\0" * 1_000_000), "unsupported_file"),
    *(
        (f"a{ending}", lambda: b"", "invalid_file")
        for ending in (".txt", ".md", ".json", ".html", ".pdf", ".docx", ".pptx")
    ),
    *(
        (f"a{ending}", lambda: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\xfe", "invalid_file")
        for ending in (".txt", ".py", ".pdf", ".docx", ".pptx")
    ),
    *((f"a{ending}", lambda: make.pdf_bytes("x"), "invalid_file") for ending in (".docx", ".pptx")),
]


@pytest.mark.parametrize(
    ("filename", "bomb", "code"),
    REFUSED,
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
async def test_a_file_that_cannot_be_read_ends_with_a_reason(
    tmp_path: Path, extractor: WorkerExtractor, filename: str, bomb: Callable[[], bytes], code: str
) -> None:
    assert await outcome(extractor, tmp_path / "file", filename, bomb()) == code


def rtf_open_braces() -> bytes:
    return b"{\\rtf1" + b"{" * 3_000_000


def rtf_control_words() -> bytes:
    return b"{\\rtf1" + b"\\f1\\u65?" * 500_000 + b"}"


def rtf_binary_without_end() -> bytes:
    return b"{\\rtf1{\\bin9999999999 x}}"


def doc_pieces_without_end() -> bytes:
    whole = bytearray(make.doc_bytes("first", "second"))
    place = whole.index(b"\x02" + struct.pack("<I", 28))
    struct.pack_into("<I", whole, place + 1, 0xFFFFFFFF)
    return bytes(whole)


READ_OR_REFUSED: list[tuple[str, Callable[[], bytes]]] = [
    ("a.pdf", pdf_layered_bomb),
    ("a.docx", docx_million_paragraphs),
    ("a.docx", docx_million_attributes),
    ("a.pptx", pptx_groups_within_groups),
    ("a.html", html_entities),
    ("a.rtf", rtf_open_braces),
    ("a.rtf", rtf_control_words),
    ("a.rtf", rtf_binary_without_end),
    ("a.doc", doc_pieces_without_end),
    ("a.json", json_deep),
    ("a.xml", xml_laughs),
]


@pytest.mark.parametrize(
    ("filename", "bomb"),
    READ_OR_REFUSED,
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
async def test_a_file_that_is_odd_is_read_or_refused_within_the_limits(
    tmp_path: Path, extractor: WorkerExtractor, filename: str, bomb: Callable[[], bytes]
) -> None:
    data = bomb()
    before = readers_took(extractor)
    said = await outcome(extractor, tmp_path / "file", filename, data)

    assert said == "invalid_file" or int(said.split()[0]) <= 10_000_000
    assert readers_took(extractor) - before < LIMITS.cpu_s + 3


def readers_took(extractor: WorkerExtractor) -> float:
    """The processor time, in seconds, of all readers that have ended."""
    assert extractor._server is not None
    fields = Path(f"/proc/{extractor._server._process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("tag", [b"<p>", b"<div>", b"<li>", b"<td>", b"<b>"])
async def test_a_page_whose_elements_are_never_closed_is_read_whole(tmp_path: Path, tag: bytes) -> None:
    (tmp_path / "file").write_bytes((tag + b"word") * 60_000)

    async with WorkerExtractor(limits=replace(LIMITS, cpu_s=20)) as extractor:  # a processor may be slow
        assert (await extractor.text(make.at(tmp_path / "file"), filename="a.html", tenant="acme")).count(
            "word"
        ) == 60_000


async def test_what_others_send_is_read_while_a_tenant_s_files_take_for_ever(
    tmp_path: Path, extractor: WorkerExtractor
) -> None:
    (tmp_path / "small").write_text("good words")
    with make.stuck(tmp_path / "stuck"):
        async with asyncio.TaskGroup() as tasks:
            slow = [
                tasks.create_task(
                    extractor.text(make.at(tmp_path / "stuck"), filename="a.txt", tenant="acme")
                )
                for _ in range(9)
            ]
            slow += [tasks.create_task(split(extractor, tmp_path / "stuck", tenant="acme")) for _ in range(9)]
            read = [
                await extractor.text(b"12345", filename="a.txt", tenant=tenant)
                for tenant in ("globex", "initech", "globex")
            ]
            chunked = [
                await split(extractor, tmp_path / "small", tenant=tenant) for tenant in ("globex", "initech")
            ]
            waiting = [task.done() for task in slow]
            for task in slow:
                task.cancel()

    assert (read, chunked, waiting) == (["12345"] * 3, [["good words"]] * 2, [False] * 18)


async def test_a_turn_does_not_wait_for_ingestion_of_any_tenant(
    tmp_path: Path, extractor: WorkerExtractor
) -> None:
    tenants = [f"tenant-{number}" for number in range(20)]
    with make.stuck(tmp_path / "stuck"):
        async with asyncio.TaskGroup() as tasks:
            slow = [
                tasks.create_task(split(extractor, tmp_path / "stuck", tenant=tenant)) for tenant in tenants
            ]
            read = await extractor.text(b"12345", filename="a.txt", tenant=tenants[0])
            for task in slow:
                task.cancel()

    assert read == "12345"


async def split(extractor: WorkerExtractor, path: Path, *, tenant: str) -> list[str]:
    return await extractor.chunks(
        make.at(path), filename="a.txt", tenant=tenant, max_tokens=800, overlap_tokens=400
    )
