"""Files as parts of a prompt: real storage, the real extraction worker."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regate_adapters.files.blobs.disk import DiskBlobStore
from regate_adapters.files.readers.extract import WorkerExtractor
from regate_orchestrator.documents.file_text import FileReader, Inline, read_inline
from regate_orchestrator.errors import InvalidRequest, NotFound, TooLarge
from regate_orchestrator.ports import UnreadableFile
from regate_orchestrator.rows import FileRow
from regate_orchestrator.values import FileId

FILE = FileId("file-0123abcd")
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
IMAGES = {
    "image/png": PNG,
    "image/jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "image/gif": b"GIF89a\x01\x00\x01\x00",
    "image/webp": b"RIFF\x24\x00\x00\x00WEBPVP8 ",
}


class Stored:
    """A reader over a directory, and how a file comes into it."""

    def __init__(self, root: Path, extractor: WorkerExtractor) -> None:
        self._blobs = DiskBlobStore(root)
        self.reader = FileReader(self._blobs, extractor)

    async def put(self, data: bytes, filename: str = "a.txt") -> FileRow:
        async def once() -> AsyncIterator[bytes]:
            yield data

        size = await self._blobs.write(FILE, once(), limit=10_000_000)
        return FileRow(FILE, filename, size, "user_data", 1_800_000_000, {"tenant": "acme", "owner": "ann"})


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[Stored]:
    async with WorkerExtractor() as extractor:
        yield Stored(tmp_path / "files", extractor)


async def test_a_stored_document_gives_its_whole_text(stored: Stored) -> None:
    long = "\n".join(f"Line {number} says something." for number in range(2_000))

    assert (
        await stored.reader.text(await stored.put(long.encode()), tenant="acme", limit_bytes=1_000_000)
        == long
    )


async def test_text_up_to_the_limit_is_read_and_one_byte_more_is_too_large(stored: Stored) -> None:
    row = await stored.put("grün".encode())

    assert await stored.reader.text(row, tenant="acme", limit_bytes=5) == "grün"
    with pytest.raises(TooLarge):
        await stored.reader.text(row, tenant="acme", limit_bytes=4)


async def test_a_document_that_is_not_what_its_name_says_is_unreadable(stored: Stored) -> None:
    row = await stored.put(b"plain words", "a.pdf")

    with pytest.raises(UnreadableFile) as refusal:
        await stored.reader.text(row, tenant="acme", limit_bytes=100)
    assert refusal.value.code == "invalid_file"


async def test_a_file_whose_bytes_are_gone_is_not_found(stored: Stored) -> None:
    gone = FileRow(FileId("file-ff"), "a.txt", 3, "user_data", 1_800_000_000, {})

    with pytest.raises(NotFound):
        await stored.reader.text(gone, tenant="acme", limit_bytes=100)
    with pytest.raises(NotFound):
        await stored.reader.content(gone, limit_bytes=100)


async def test_bytes_are_read_up_to_the_limit_and_not_beyond(stored: Stored) -> None:
    row = await stored.put(b"12345")

    assert await stored.reader.content(row, limit_bytes=5) == b"12345"
    with pytest.raises(TooLarge):
        await stored.reader.content(row, limit_bytes=4)


@pytest.mark.parametrize("media_type", IMAGES)
async def test_an_image_becomes_a_data_url_of_the_type_that_its_bytes_show(
    stored: Stored, media_type: str
) -> None:
    row = await stored.put(IMAGES[media_type], "misleading.txt")

    url = await stored.reader.data_url(row, limit_bytes=1_000)

    assert url == f"data:{media_type};base64,{base64.b64encode(IMAGES[media_type]).decode()}"


@pytest.mark.parametrize("data", [b"", b"<svg onload='x'/>", b"RIFF\x24\x00\x00\x00WAVE", b"BM", PNG[:7]])
async def test_what_is_no_image_never_becomes_one_by_its_name(stored: Stored, data: bytes) -> None:
    row = await stored.put(data, "image.png")

    with pytest.raises(UnreadableFile) as refusal:
        await stored.reader.data_url(row, limit_bytes=1_000)
    assert refusal.value.code == "unsupported_file"


# ---------------------------------------------------------------- inline


@pytest.mark.parametrize(
    ("value", "media_type"),
    [
        (base64.b64encode(b"words").decode(), ""),
        ("data:text/plain;base64,d29yZHM=", "text/plain"),
        ("data:Text/Plain;charset=utf-8;base64,d29yZHM=", "text/plain"),
        ("data:;base64,d29yZHM=", ""),
        ("data:text/plain;charset=utf-8;name=a.txt;base64,d29yZHM=", "text/plain"),
        ('DATA:text/plain;name="a; b,c.txt";BASE64,d29yZHM=', "text/plain"),
        ("data:text/plain;base64,d29yZHM%3D", "text/plain"),
        ("data:,words", ""),
        ("data:text/plain,words", "text/plain"),
        ("data:text/plain;charset=US-ASCII,w%6Frds", "text/plain"),
        ("data:;charset=utf-8,words", ""),
        ("data:application/vnd.a.b+json;version=1,words", "application/vnd.a.b+json"),
    ],
)
def test_inline_data_is_base64_with_or_without_a_data_url(value: str, media_type: str) -> None:
    assert read_inline(value, param="file_data", limit_bytes=5) == Inline(b"words", media_type)


@pytest.mark.parametrize(
    "value",
    [
        *(
            "not base64!",
            "d29yZHM",
            "d29yZHM=\n",
            "data:text/plain;base64,wörter",
            "data:text/plain;base64,d29y%2",
            "data:text/plain,100%",
        ),
        *(
            "data:text/plain",
            "data:text;base64,d29yZHM=",
            "data:text/plain;base64;x=y,d29yZHM=",
            "data:;;base64,d29yZHM=",
        ),
        *(
            "data:text/plain;charset=nonsense,words",
            "data:text/plain;charset=utf-8;base64,d29yZHM",
            "data:text/plain,a\nb",
            "date:,words",
        ),
        *(
            "data:;charset=shift_jis,%ff%ff",
            "data:;charset=base64,words",
            "data:;charset=unicode_escape,words",
            "data:;charset=idna,words",
            f"data:text/plain;name={'x' * 2_000},words",
        ),
    ],
)
def test_anything_else_is_refused_with_the_parameter(value: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        read_inline(value, param="input[0].content[1].file_data", limit_bytes=1_000)
    assert refusal.value.param == "input[0].content[1].file_data"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("data:,caf%C3%A9", "café".encode()),
        ("data:;charset=utf-8,caf%C3%A9", "café".encode()),
        ("data:text/plain;charset=iso-8859-1,caf%E9", "\ufeffcafé".encode()),
        ("data:text/csv;charset=Shift_JIS;base64,jF+W8Q==", "\ufeff契約".encode()),
        ('data:text/html;charset="windows-1251",%EF%F0%E8%E2%E5%F2', "\ufeffпривет".encode()),
        ("data:text/plain;charset=utf-16,%FF%FEa%00", "\ufeffa".encode()),
        ("data:application/pdf;charset=iso-8859-1,%E9", b"\xe9"),
        ("data:text/plain,a+b%20c%00", b"a+b c\x00"),
        ("data:,", b""),
    ],
)
def test_inline_text_is_read_in_the_character_set_that_it_names(value: str, expected: bytes) -> None:
    assert read_inline(value, param="file_data", limit_bytes=100).data == expected


@pytest.mark.parametrize("size", range(8))
def test_the_limit_on_percent_encoded_data_is_exact(size: int) -> None:
    value = "data:," + "%78" * size

    assert read_inline(value, param="file_data", limit_bytes=size).data == b"x" * size
    if size:
        with pytest.raises(TooLarge):
            read_inline(value, param="file_data", limit_bytes=size - 1)


@pytest.mark.parametrize("size", range(8))
def test_the_limit_on_inline_data_is_exact(size: int) -> None:
    value = base64.b64encode(b"x" * size).decode()

    assert read_inline(value, param="file_data", limit_bytes=size).data == b"x" * size
    if size:
        with pytest.raises(TooLarge):
            read_inline(value, param="file_data", limit_bytes=size - 1)


@pytest.mark.parametrize(
    ("inline", "filename", "text"),
    [
        (Inline(b"# Title", ""), "notes.md", "# Title"),
        (Inline(b"<p>seen</p><script>unseen</script>", "text/html"), None, "seen"),
        (Inline(b"# kept as text", "application/pdf"), "notes.txt", "# kept as text"),
    ],
)
async def test_an_inline_document_is_read_by_its_name_or_else_its_media_type(
    stored: Stored, inline: Inline, filename: str | None, text: str
) -> None:
    assert (
        await stored.reader.text_of_inline(inline, filename=filename, tenant="acme", limit_bytes=100) == text
    )


async def test_an_inline_document_larger_than_a_pipe_is_read_whole(stored: Stored) -> None:
    data = b"word " * 400_000

    text = await stored.reader.text_of_inline(
        Inline(data, ""), filename="a.txt", tenant="acme", limit_bytes=len(data)
    )

    assert text == data.decode().strip()


async def test_an_inline_document_of_no_known_kind_is_unsupported(stored: Stored) -> None:
    for filename in (None, "a.exe"):
        with pytest.raises(UnreadableFile) as refusal:
            await stored.reader.text_of_inline(
                Inline(b"x", "application/octet-stream"), filename=filename, tenant="acme", limit_bytes=100
            )
        assert refusal.value.code == "unsupported_file"


async def test_the_limit_on_text_holds_for_inline_documents(stored: Stored) -> None:
    with pytest.raises(TooLarge):
        await stored.reader.text_of_inline(
            Inline(b"12345", "text/plain"), filename=None, tenant="acme", limit_bytes=4
        )
