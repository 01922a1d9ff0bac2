"""Text out of files, through the real worker process and its limits."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest

from regate_adapters.files.extract import WorkerExtractor, WorkerLimits
from regate_orchestrator.ports import UnreadableFile


def _documents() -> ModuleType:
    spec = util.spec_from_file_location("regate_test_documents", Path(__file__).with_name("documents.py"))
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = _documents()


@pytest.fixture
async def extractor() -> AsyncIterator[WorkerExtractor]:
    async with WorkerExtractor() as worker:
        yield worker


class Files:
    """Writes files without the ending of their name, as the blob store does, and has them read."""

    def __init__(self, root: Path, extractor: WorkerExtractor) -> None:
        self._root = root
        self._extractor = extractor

    async def chunks(self, filename: str, data: bytes, *, max_tokens: int = 800, overlap_tokens: int = 400) -> list[str]:
        path = self._root / "file-1"
        path.write_bytes(data)
        return await self._extractor.chunks(path, filename=filename, max_tokens=max_tokens, overlap_tokens=overlap_tokens)

    async def refusal(self, filename: str, data: bytes) -> tuple[str, str]:
        with pytest.raises(UnreadableFile) as refusal:
            await self.chunks(filename, data)
        return refusal.value.code, refusal.value.message


@pytest.fixture
def files(tmp_path: Path, extractor: WorkerExtractor) -> Files:
    return Files(tmp_path, extractor)


@pytest.mark.parametrize(
    ("filename", "data", "text"),
    [
        ("a.txt", "Grüße, 日本\r\nzwei\r".encode(), "Grüße, 日本\nzwei"),
        ("A.TXT", "\ufeffmark".encode(), "mark"),
        ("a.md", "caf\u00e9 — utf-16".encode("utf-16"), "caf\u00e9 — utf-16"),
        ("a.md", "big".encode("utf-16-be").join([b"\xfe\xff", b""]), "big"),
        ("a.txt", "utf-32".encode("utf-32"), "utf-32"),
        ("a.txt", "“caf\u00e9” €5".encode("cp1252"), "“caf\u00e9” €5"),
        ("a.csv", b"name,level\nx,1\n", "name,level\nx,1"),
        ("a.json", b'{"k": [1, 2]}', '{"k": [1, 2]}'),
        ("a.markdown", b"# Title\n\nText", "# Title\n\nText"),
    ],
)
async def test_plain_text_is_decoded(files: Files, filename: str, data: bytes, text: str) -> None:
    assert await files.chunks(filename, data) == [text]


async def test_html_gives_what_a_reader_sees(files: Files) -> None:
    page = b"""<!doctype html><html><head><title>The title</title><style>p {}</style><script>evil()</script></head><body>
    <!-- not for readers --><h1>Heading</h1><p>One
    <b>bold</b> line.<br>Next.</p><ul><li>first</li><li>second</li></ul><table><tr><td>a</td><td>b</td></tr></table><pre>  kept
    as is</pre></body></html>"""

    (text,) = await files.chunks("a.html", page)

    assert [line for line in text.split("\n") if line] == [
        "The title",
        "Heading",
        "One bold line.",
        "Next.",
        "first",
        "second",
        "a\tb",
        "kept",
        "as is",
    ]


async def test_html_that_is_not_as_it_should_be_gives_what_a_reader_sees(files: Files) -> None:
    page = b"""<p>One &amp; two &eacute;<p>three<ul><li>first<li>second</ul></b></p>
    <svg><text>unseen<svg>also</svg></text></svg>seen<noscript>unseen<br/>too</noscript> again<script/>x
    <template>unseen</template><![CDATA[unseen]]><?php echo "unseen" ?></pre> a  b<object/> end"""

    (text,) = await files.chunks("a.html", page)

    assert [line for line in text.split("\n") if line] == ["One & two \u00e9", "three", "first", "second", "seen again" + "x", "a b end"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"<meta charset='iso-8859-1'><p>caf\xe9", "caf\u00e9"),
        ("<p>\u65e5\u672c".encode("utf-16"), "\u65e5\u672c"),
        ("<p>caf\u00e9".encode(), "caf\u00e9"),
        (b'<META http-equiv="Content-Type" content="text/html; charset=koi8-r"><p>\xf4\xc5\xcb\xd3\xd4', "\u0422\u0435\u043a\u0441\u0442"),
        ("<meta charset=utf-16><p>caf\u00e9".encode(), "caf\u00e9"),
        ("\ufeff<meta charset=koi8-r><p>caf\u00e9".encode(), "caf\u00e9"),
        (b"<meta charset=base64><p>plain", "plain"),
        (b"<meta charset=no-such><p>plain", "plain"),
        (b"<meta charset=utf-8><p>caf\xe9", "caf\ufffd"),
        (b"<p>\x93quoted\x94", "\u201cquoted\u201d"),
    ],
)
async def test_html_is_decoded_as_it_says(files: Files, data: bytes, text: str) -> None:
    assert await files.chunks("a.html", data) == [text]


async def test_a_pdf_gives_its_lines(files: Files) -> None:
    (text,) = await files.chunks("a.pdf", make.pdf_bytes("Quarterly figures", "are confidential"))

    assert text.split() == ["Quarterly", "figures", "are", "confidential"]


async def test_a_docx_gives_paragraphs_and_tables_in_order(files: Files) -> None:
    (text,) = await files.chunks("a.docx", make.docx_bytes("first", "second", table=[["a", "b"], ["c", "d"]]))

    assert text == "first\n\nsecond\n\na\tb\n\nc\td\n\nthe end"


async def test_a_pptx_gives_titles_groups_tables_and_notes(files: Files) -> None:
    (text,) = await files.chunks("a.pptx", make.pptx_bytes("One", "Two", notes="said aloud"))

    parts = ["{0}", "inside a group: {0}", "left\tright", "said aloud"]
    assert text == "\n\n".join(part.format(title) for title in ("One", "Two") for part in parts)


async def test_text_is_split_into_chunks_that_overlap(files: Files) -> None:
    sentences = [f"Sentence number {number} says something." for number in range(400)]

    chunks = await files.chunks("a.txt", " ".join(sentences).encode(), max_tokens=100, overlap_tokens=50)

    assert len(chunks) > 40
    assert all(sentence in " ".join(chunks) for sentence in sentences)
    assert max(len(chunk.split()) for chunk in chunks) <= 100
    assert sum(len(chunk) for chunk in chunks) > 1.5 * len(" ".join(sentences))


async def test_a_file_without_overlap_is_split_without_loss(files: Files) -> None:
    words = [f"w{number}" for number in range(2_000)]

    chunks = await files.chunks("a.txt", " ".join(words).encode(), max_tokens=100, overlap_tokens=0)

    assert " ".join(chunks).split() == words


OF_OPENAI = [
    *(".c", ".cpp", ".cs", ".css", ".go", ".html", ".java", ".js", ".json", ".md", ".php", ".py", ".rb", ".sh", ".tex", ".ts", ".txt")
]


@pytest.mark.parametrize("ending", [*OF_OPENAI, ".csv", ".xml", ".yaml", ".PY"])
async def test_every_kind_of_text_that_openai_takes_is_read(files: Files, ending: str) -> None:
    assert await files.chunks(f"a{ending}", b"if (a < b) { return 1; }\n") == ["if (a < b) { return 1; }"]


@pytest.mark.parametrize("filename", ["a.exe", "a", "a.txt.zip", ".txt", "a.doc"])
async def test_other_kinds_are_not_supported(files: Files, filename: str) -> None:
    code, message = await files.refusal(filename, b"text")

    assert code == "unsupported_file"
    assert ".docx" in message


@pytest.mark.parametrize("data", [b"", b" \n\t ", b"\xef\xbb\xbf"])
async def test_a_file_without_text_is_invalid(files: Files, data: bytes) -> None:
    assert await files.refusal("a.txt", data) == ("invalid_file", "The file holds no text.")


async def test_a_pdf_that_lost_its_table_is_read_all_the_same(files: Files) -> None:
    whole = make.pdf_bytes("Quarterly figures")
    (text,) = await files.chunks("a.pdf", whole[: whole.index(b"xref")] + b"trailer\n<< /Root 1 0 R >>\n%%EOF")

    assert text == "Quarterly figures"


async def test_a_pdf_without_text_is_invalid(files: Files) -> None:
    assert await files.refusal("a.pdf", make.pdf_bytes()) == ("invalid_file", "The file holds no text.")


@pytest.mark.parametrize(
    ("filename", "data"),
    [
        ("a.txt", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\xff\xfe"),
        ("a.txt", b"text with a \x00 in it"),
        ("a.txt", b"\xff\xfeodd"),
        ("a.pdf", b"no pdf at all"),
        ("a.pdf", make.pdf_bytes("x")[:80]),
        ("a.docx", b"PK\x03\x04 cut off"),
        ("a.docx", make.docx_bytes("x")[:2_000]),
        ("a.docx", make.pptx_bytes("x")),
        ("a.docx", make.with_document(make.docx_bytes("x"), b"<w:document")),
        ("a.pptx", make.docx_bytes("x")),
        ("a.pptx", b"plain text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # an archive holds the time it was made
)
async def test_a_broken_file_is_invalid_and_none_of_it_is_quoted(files: Files, filename: str, data: bytes) -> None:
    code, message = await files.refusal(filename, data)

    assert code == "invalid_file"
    assert message.startswith("The file ")


async def test_a_locked_pdf_is_refused_and_one_without_password_is_read(files: Files) -> None:
    assert await files.refusal("a.pdf", make.encrypted_pdf_bytes(user_password="secret")) == ("invalid_file", "The file is encrypted.")
    assert await files.chunks("a.pdf", make.encrypted_pdf_bytes(user_password="")) == ["locked away"]


@pytest.mark.parametrize("kind", ["docx", "pptx"])
async def test_an_archive_that_unpacks_to_too_much_is_refused(files: Files, kind: str) -> None:
    whole = make.docx_bytes("x") if kind == "docx" else make.pptx_bytes("x")
    bomb = make.with_member(whole, "media/zeros.bin", b"\0" * 30_000_000)

    assert len(bomb) < 100_000
    assert await files.refusal(f"a.{kind}", bomb) == ("invalid_file", "The file unpacks to more than is allowed.")


async def test_an_archive_that_lies_about_its_sizes_is_refused(files: Files) -> None:
    xml = b"<w:document>" + b" " * 50_000_000 + b"</w:document>"
    bomb = make.with_document(make.docx_bytes("x"), xml, declared_size=1_000)

    code, _ = await files.refusal("a.docx", bomb)

    assert code == "invalid_file"


async def test_entities_that_grow_without_bound_are_not_expanded(files: Files) -> None:
    levels = "".join(f'<!ENTITY e{level} "{f"&e{level - 1};" * 10}">' for level in range(1, 10))
    xml = (
        f'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY e0 "laughs">{levels}]>'
        '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
        "<w:body><w:p><w:r><w:t>&e9;</w:t></w:r></w:p></w:body></w:document>"
    )

    code, _ = await files.refusal("a.docx", make.with_document(make.docx_bytes("x"), xml.encode()))

    assert code == "invalid_file"


async def test_entities_never_bring_in_another_file(files: Files, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("another tenant's words")
    xml = (
        f'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY x SYSTEM "file://{tmp_path}/secret">]>'
        '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
        "<w:body><w:p><w:r><w:t>seen:&x;</w:t></w:r></w:p></w:body></w:document>"
    )
    try:
        chunks = await files.chunks("a.docx", make.with_document(make.docx_bytes("x"), xml.encode()))
    except UnreadableFile as refusal:
        chunks = [refusal.message]

    assert "another tenant's words" not in "".join(chunks)


async def test_a_run_without_any_break_takes_no_squared_time(tmp_path: Path) -> None:
    async with WorkerExtractor(limits=WorkerLimits(cpu_s=20)) as extractor:
        chunks = await Files(tmp_path, extractor).chunks("a.md", b"![](data:image/png;base64," + b"QUJD" * 200_000 + b")")

    assert sum(chunk.count("QUJD") for chunk in chunks) > 199_000


async def test_more_text_than_is_allowed_is_refused(files: Files) -> None:
    code, message = await files.refusal("a.txt", b"word " * 2_000_001)

    assert (code, message) == ("invalid_file", "The file's text is longer than 10,000,000 characters.")


async def test_a_worker_that_spins_is_ended_by_its_processor_limit(tmp_path: Path) -> None:
    async with WorkerExtractor(limits=WorkerLimits(cpu_s=1)) as extractor:
        code, message = await Files(tmp_path, extractor).refusal("a.txt", b"some words to split. " * 400_000)

    assert (code, message) == ("invalid_file", "The file takes more time or memory to read than is allowed.")


async def test_a_worker_that_hangs_is_killed_at_its_deadline(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it waits for a writer that never comes
    async with WorkerExtractor(limits=WorkerLimits(wall_s=0.5)) as extractor:
        with pytest.raises(UnreadableFile, match="longer to read than is allowed"):
            await extractor.chunks(tmp_path / "pipe", filename="a.txt", max_tokens=800, overlap_tokens=400)

    assert _children() == []


async def test_a_worker_that_takes_too_much_memory_is_refused_it(tmp_path: Path) -> None:
    async with WorkerExtractor(limits=WorkerLimits(memory_bytes=200_000_000)) as extractor:
        code, message = await Files(tmp_path, extractor).refusal("a.txt", b"word " * 40_000_000)

    assert code == "invalid_file"
    assert "memory" in message


async def test_a_worker_that_answers_too_much_is_cut_off(tmp_path: Path) -> None:
    async with WorkerExtractor(limits=WorkerLimits(output_bytes=1_000)) as extractor:
        assert await Files(tmp_path, extractor).refusal("a.txt", b"word " * 1_000) == (
            "invalid_file",
            "The file holds more text than is allowed.",
        )

    assert _children() == []


async def test_a_cancelled_extraction_leaves_no_process(tmp_path: Path, extractor: WorkerExtractor) -> None:
    os.mkfifo(tmp_path / "pipe")
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(extractor.chunks(tmp_path / "pipe", filename="a.txt", max_tokens=800, overlap_tokens=400))
        writer = await asyncio.to_thread(lambda: (tmp_path / "pipe").open("wb"))  # which returns when the worker reads
        reading.cancel()
    writer.close()

    assert reading.cancelled()
    assert _children() == []


async def test_the_place_of_a_killed_worker_is_free_again(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    async with WorkerExtractor(limits=WorkerLimits(wall_s=0.3), concurrency=1) as extractor:
        with pytest.raises(UnreadableFile):
            await extractor.chunks(tmp_path / "pipe", filename="a.txt", max_tokens=800, overlap_tokens=400)
    async with WorkerExtractor(concurrency=1) as extractor:
        assert await Files(tmp_path, extractor).chunks("a.txt", b"next") == ["next"]


def _children() -> list[str]:
    """The extraction workers that this process has started and not yet buried."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = status.read_text().rpartition(")")[2].split()[1]
            command = status.with_name("cmdline").read_text()
        except OSError:
            continue
        if parent == str(os.getpid()) and (not command or "regate_adapters.files.worker" in command):
            found.append(f"{status.parent.name} {command}")
    return found


async def test_files_are_read_at_the_same_time(tmp_path: Path, extractor: WorkerExtractor) -> None:
    for number in range(6):
        (tmp_path / f"file-{number}").write_text(f"text {number}")

    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(extractor.chunks(tmp_path / f"file-{number}", filename="a.txt", max_tokens=800, overlap_tokens=400))
            for number in range(6)
        ]

    assert [task.result() for task in running] == [[f"text {number}"] for number in range(6)]


async def test_a_file_that_is_gone_is_invalid(tmp_path: Path, extractor: WorkerExtractor) -> None:
    with pytest.raises(UnreadableFile) as refusal:
        await extractor.chunks(tmp_path / "gone", filename="a.txt", max_tokens=800, overlap_tokens=400)

    assert (refusal.value.code, refusal.value.message) == ("invalid_file", "The file was deleted.")


async def test_the_worker_binds_itself_and_knows_no_secret_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    os.mkfifo(tmp_path / "pipe")
    async with WorkerExtractor(limits=WorkerLimits(cpu_s=7, memory_bytes=500_000_000)) as extractor, asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(extractor.chunks(tmp_path / "pipe", filename="a.txt", max_tokens=800, overlap_tokens=400))
        # Opening the pipe for writing returns when the worker has opened it for reading, hence after it has bound itself.
        writer = await asyncio.to_thread(lambda: (tmp_path / "pipe").open("wb"))
        (process,) = extractor._running
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        environment = Path(f"/proc/{process.pid}/environ").read_text()
        writer.write(b"text")
        writer.close()

    bound = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()}
    assert await reading == ["text"]
    assert bound["Max cpu time"] == ["7", "7"]
    assert bound["Max address space"] == ["500000000", "500000000"]
    assert bound["Max file size"] == ["0", "0"]
    assert "sk-secret" not in environment


async def test_a_small_text_loads_no_heavy_library() -> None:
    program = (
        "import sys, regate_adapters.files.worker, regate_adapters.files.splitting as s\n"
        "s.split('some text', filename='a.md', max_tokens=800, overlap_tokens=400)\n"
        "print(sorted({'pypdf', 'docx', 'pptx', 'lxml', 'numpy', 'chromadb', 'asyncio', 'regate_orchestrator'} & set(sys.modules)))"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program), stdout=asyncio.subprocess.PIPE, env={"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    output, _ = await process.communicate()

    assert output.decode().strip() == "[]"


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b"{}",
        b'{"chunks": []}',
        b'{"chunks": [1]}',
        b'{"chunks": "x"}',
        b'{"code": "x", "message": "y"}',
        b"[" * 100_000,
    ],
    ids=lambda value: value[:20].decode(),
)
def test_an_answer_of_a_worker_that_was_taken_over_is_not_believed(output: bytes) -> None:
    from regate_adapters.files.extract import _read

    with pytest.raises(UnreadableFile):
        _read(output)


def test_a_chunk_is_always_valid_unicode() -> None:
    from regate_adapters.files.extract import _read

    assert _read(json.dumps({"chunks": ["a\ud800"]}).encode()) == ["a?"]
