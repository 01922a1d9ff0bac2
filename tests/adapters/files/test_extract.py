"""Text out of files, through the real worker process and its limits."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest
import pytest_asyncio
from tests.adapters.files import documents as make

from regate_adapters.files.readers.extract import WorkerExtractor, WorkerLimits
from regate_orchestrator.errors import ExtractionUnavailable
from regate_orchestrator.ports import UnreadableFile

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def extractor() -> AsyncIterator[WorkerExtractor]:
    async with WorkerExtractor() as started:
        yield started


class Files:
    """Writes files without the ending of their name, as the blob store does, and has them read."""

    def __init__(self, root: Path, extractor: WorkerExtractor) -> None:
        self._root = root
        self._extractor = extractor

    async def chunks(
        self, filename: str, data: bytes, *, max_tokens: int = 800, overlap_tokens: int = 400
    ) -> list[str]:
        path = self._root / "file-1"
        path.write_bytes(data)
        return await self._extractor.chunks(
            make.at(path),
            filename=filename,
            tenant="acme",
            max_tokens=max_tokens,
            overlap_tokens=overlap_tokens,
        )

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

    assert [line for line in text.split("\n") if line] == [
        "One & two \u00e9",
        "three",
        "first",
        "second",
        "seen again" + "x",
        "a b end",
    ]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"<meta charset='iso-8859-1'><p>caf\xe9", "caf\u00e9"),
        ("<p>\u65e5\u672c".encode("utf-16"), "\u65e5\u672c"),
        ("<p>caf\u00e9".encode(), "caf\u00e9"),
        (
            b'<META http-equiv="Content-Type" content="text/html; charset=koi8-r"><p>\xf4\xc5\xcb\xd3\xd4',
            "\u0422\u0435\u043a\u0441\u0442",
        ),
        ("<meta charset=utf-16><p>caf\u00e9".encode(), "caf\u00e9"),
        ("\ufeff<meta charset=koi8-r><p>caf\u00e9".encode(), "caf\u00e9"),
        (b"<meta charset=base64><p>plain", "plain"),
        (b"<meta charset=no-such><p>plain", "plain"),
        (b"<meta charset=utf-8><p>caf\xe9", "caf\u00e9"),
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
    *(
        ".c",
        ".cpp",
        ".cs",
        ".css",
        ".go",
        ".html",
        ".java",
        ".js",
        ".json",
        ".md",
        ".php",
        ".py",
        ".rb",
        ".sh",
        ".tex",
        ".ts",
        ".txt",
    )
]


@pytest.mark.parametrize("ending", [*OF_OPENAI, ".csv", ".xml", ".yaml", ".PY"])
async def test_every_kind_of_text_that_openai_takes_is_read(files: Files, ending: str) -> None:
    assert await files.chunks(f"a{ending}", b"if (a < b) { return 1; }\n") == ["if (a < b) { return 1; }"]


@pytest.mark.parametrize(
    ("filename", "named"),
    [
        ("a.exe", "'.exe'"),
        ("a", "no ending"),
        ("a.txt.zip", "'.zip'"),
        (".txt", "no ending"),
        ("a.pages", "'.pages'"),
    ],
)
async def test_other_kinds_are_not_supported_and_it_is_said_which_are(
    files: Files, filename: str, named: str
) -> None:
    code, message = await files.refusal(filename, b"text")

    assert code == "unsupported_file"
    assert named in message.partition(".docx")[0]
    assert message.split()[-1] == ".zsh."


@pytest.mark.parametrize("data", [b"", b" \n\t ", b"\xef\xbb\xbf"])
async def test_a_file_without_text_is_invalid(files: Files, data: bytes) -> None:
    assert await files.refusal("a.txt", data) == ("invalid_file", "The file holds no text.")


async def test_a_pdf_that_lost_its_table_is_read_all_the_same(files: Files) -> None:
    whole = make.pdf_bytes("Quarterly figures")
    (text,) = await files.chunks(
        "a.pdf", whole[: whole.index(b"xref")] + b"trailer\n<< /Root 1 0 R >>\n%%EOF"
    )

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
        ("a.docx", make.with_document(make.docx_bytes("x"), b"<w:document")),
        ("a.pptx", b"plain text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # an archive holds the time it was made
)
async def test_a_broken_file_is_invalid_and_none_of_it_is_quoted(
    files: Files, filename: str, data: bytes
) -> None:
    code, message = await files.refusal(filename, data)

    assert code == "invalid_file"
    assert message.startswith("The file ")


async def test_a_locked_pdf_is_refused_and_one_without_password_is_read(files: Files) -> None:
    assert await files.refusal("a.pdf", make.encrypted_pdf_bytes(user_password="secret")) == (
        "invalid_file",
        "The file is protected by a password: save it without one.",
    )
    assert await files.chunks("a.pdf", make.encrypted_pdf_bytes(user_password="")) == ["locked away"]


@pytest.mark.parametrize("kind", ["docx", "pptx"])
async def test_an_archive_that_unpacks_to_too_much_is_refused(files: Files, kind: str) -> None:
    whole, name = (
        (make.docx_bytes("x"), "word/document.xml")
        if kind == "docx"
        else (make.pptx_bytes("x"), "ppt/slides/slide1.xml")
    )
    bomb = make.with_part(whole, name, b"<x>" + b" " * 30_000_000)

    assert len(bomb) < 100_000
    assert await files.refusal(f"a.{kind}", bomb) == (
        "invalid_file",
        "The file unpacks to more than is allowed.",
    )


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
        chunks = await Files(tmp_path, extractor).chunks(
            "a.md", b"![](data:image/png;base64," + b"QUJD" * 200_000 + b")"
        )

    assert sum(chunk.count("QUJD") for chunk in chunks) > 199_000


async def test_more_text_than_is_allowed_is_refused(files: Files) -> None:
    code, message = await files.refusal("a.txt", b"word " * 2_000_001)

    assert (code, message) == ("invalid_file", "The file's text is longer than 10,000,000 characters.")


async def test_a_file_that_takes_all_its_processor_time_is_refused_for_good(tmp_path: Path) -> None:
    async with WorkerExtractor(limits=WorkerLimits(cpu_s=1)) as extractor:
        code, message = await Files(tmp_path, extractor).refusal("a.txt", b"some words to split. " * 400_000)

    assert (code, message) == ("invalid_file", "The file takes more processor time to read than is allowed.")


async def test_a_file_that_is_not_read_by_its_deadline_may_be_read_later_on_a_machine_that_is_less_busy(
    tmp_path: Path,
) -> None:
    with make.stuck(tmp_path / "stuck"):
        async with WorkerExtractor(limits=WorkerLimits(wall_s=0.5)) as extractor:
            with pytest.raises(ExtractionUnavailable):
                await extractor.text(make.at(tmp_path / "stuck"), filename="a.txt", tenant="acme")

            assert readers() == []


async def test_a_reader_that_the_machine_killed_is_no_fault_of_the_file(
    tmp_path: Path, extractor: WorkerExtractor
) -> None:
    with make.stuck(tmp_path / "stuck"):
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(
                _outcome(extractor.text(make.at(tmp_path / "stuck"), filename="a.txt", tenant="acme"))
            )
            os.kill(await a_reader(), signal.SIGKILL)

    assert type(reading.result()) is ExtractionUnavailable


async def test_a_reader_that_crashes_is_the_fault_of_the_file(
    tmp_path: Path, extractor: WorkerExtractor
) -> None:
    with make.stuck(tmp_path / "stuck"):
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(
                _outcome(extractor.text(make.at(tmp_path / "stuck"), filename="a.txt", tenant="acme"))
            )
            os.kill(await a_reader(), signal.SIGSEGV)

    assert isinstance(reading.result(), UnreadableFile)


async def test_when_the_server_is_killed_its_readers_die_and_another_takes_its_place(tmp_path: Path) -> None:
    async with WorkerExtractor() as extractor:
        with make.stuck(tmp_path / "stuck"):
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(
                    _outcome(extractor.text(make.at(tmp_path / "stuck"), filename="a.txt", tenant="acme"))
                )
                reader = await a_reader()
                os.kill(_parent(reader), signal.SIGKILL)
        await _until_gone(reader)

        assert type(reading.result()) is ExtractionUnavailable
        assert await extractor.text(b"next", filename="a.txt", tenant="acme") == "next"


async def test_a_worker_that_takes_too_much_memory_is_refused_it(tmp_path: Path) -> None:
    async with WorkerExtractor(limits=WorkerLimits(memory_bytes=300_000_000)) as extractor:
        code, message = await Files(tmp_path, extractor).refusal("a.txt", b"word " * 60_000_000)

    assert code == "invalid_file"
    assert "memory" in message


async def test_a_worker_that_answers_too_much_is_cut_off(tmp_path: Path) -> None:
    async with WorkerExtractor(limits=WorkerLimits(output_bytes=1_000)) as extractor:
        assert await Files(tmp_path, extractor).refusal("a.txt", b"word " * 1_000) == (
            "invalid_file",
            "The file holds more text than is allowed.",
        )

        assert readers() == []


async def test_a_cancelled_extraction_leaves_no_process(tmp_path: Path, extractor: WorkerExtractor) -> None:
    with make.stuck(tmp_path / "stuck"):
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(
                extractor.text(make.at(tmp_path / "stuck"), filename="a.txt", tenant="acme")
            )
            await a_reader()
            reading.cancel()

        assert reading.cancelled()
        assert readers() == []


async def test_leaving_ends_what_still_runs(tmp_path: Path) -> None:
    with make.stuck(tmp_path / "stuck"):
        async with asyncio.TaskGroup() as tasks:
            async with WorkerExtractor() as extractor:
                reading = tasks.create_task(
                    _outcome(extractor.text(make.at(tmp_path / "stuck"), filename="a.txt", tenant="acme"))
                )
                reader = await a_reader()
            await _until_gone(reader)

    assert type(reading.result()) is ExtractionUnavailable


async def test_when_the_gateway_is_killed_its_readers_and_their_server_end(tmp_path: Path) -> None:
    program = (
        "import asyncio\n"
        "from tests.adapters.files import documents as make\n"
        "from regate_adapters.files.readers.extract import WorkerExtractor\n"
        "async def main():\n"
        "    async with WorkerExtractor() as extractor:\n"
        "        print(extractor._server._process.pid, flush=True)\n"
        f"        await extractor.text(make.at({str(tmp_path / 'stuck')!r}), filename='a.txt', "
        "tenant='acme')\n"
        "asyncio.run(main())\n"
    )
    with make.stuck(tmp_path / "stuck"):
        gateway = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program),
            stdout=asyncio.subprocess.PIPE,
            env={"PYTHONPATH": os.pathsep.join([*sys.path, str(Path.cwd())])},
        )
        assert gateway.stdout is not None
        server = int(await gateway.stdout.readline())
        reader = await a_reader(of=gateway.pid)
        gateway.kill()
        await gateway.wait()
        async with asyncio.timeout(60):
            while _is_alive(server) or _is_alive(reader):
                await asyncio.sleep(0.05)


async def test_the_place_of_a_reader_that_ended_is_free_again(tmp_path: Path) -> None:
    with make.stuck(tmp_path / "stuck"):
        async with WorkerExtractor(limits=WorkerLimits(wall_s=0.3), at_once=1) as extractor:
            for _ in range(2):
                with pytest.raises(ExtractionUnavailable):
                    await extractor.text(make.at(tmp_path / "stuck"), filename="a.txt", tenant="acme")


def readers(of: int | None = None) -> list[int]:
    """The processes that read files: grandchildren of this one, or of that one."""
    parents = {int(path.name): _parent(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    return [
        pid
        for pid, parent in parents.items()
        if parents.get(parent) == (of or os.getpid()) and "readers.worker" in _command(parent)
    ]


async def a_reader(of: int | None = None) -> int:
    """A process that reads a file, once there is one."""
    async with asyncio.timeout(60):
        while not (found := readers(of)):
            await asyncio.sleep(0.05)
    return found[0]


async def _until_gone(pid: int) -> None:
    async with asyncio.timeout(60):
        while pid in readers() or (Path(f"/proc/{pid}").exists() and _parent(pid) == 1):
            await asyncio.sleep(0.05)


async def _until_confined(pid: int) -> None:
    async with asyncio.timeout(60):
        while "Seccomp:\t2" not in Path(f"/proc/{pid}/status").read_text():
            await asyncio.sleep(0.05)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


async def _outcome(reading: Awaitable[str]) -> str | Exception:
    try:
        return await reading
    except Exception as error:
        return error


async def test_files_are_read_at_the_same_time(tmp_path: Path, extractor: WorkerExtractor) -> None:
    for number in range(6):
        (tmp_path / f"file-{number}").write_text(f"text {number}")

    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(
                extractor.text(make.at(tmp_path / f"file-{number}"), filename="a.txt", tenant="acme")
            )
            for number in range(6)
        ]

    assert [task.result() for task in running] == [f"text {number}" for number in range(6)]


async def test_a_file_that_is_gone_is_invalid(tmp_path: Path, extractor: WorkerExtractor) -> None:
    with pytest.raises(UnreadableFile) as refusal:
        await extractor.text(make.at(tmp_path / "gone"), filename="a.txt", tenant="acme")

    assert (refusal.value.code, refusal.value.message) == ("invalid_file", "The file was deleted.")


async def test_a_reader_is_bound_and_knows_no_secret_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with make.stuck(tmp_path / "stuck"):
        async with (
            WorkerExtractor(limits=WorkerLimits(cpu_s=7, memory_bytes=500_000_000)) as extractor,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(
                _outcome(extractor.text(make.at(tmp_path / "stuck"), filename="a.txt", tenant="acme"))
            )
            reader = await a_reader()
            await _until_confined(reader)
            limits = Path(f"/proc/{reader}/limits").read_text()
            environment = Path(f"/proc/{reader}/environ").read_text()
            os.kill(reader, signal.SIGKILL)

    bound = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()}
    assert bound["Max cpu time"] == ["7", "8"]
    assert bound["Max address space"] == ["500000000", "500000000"]
    assert bound["Max file size"] == ["0", "0"]
    assert "sk-secret" not in environment
