"""Runs `code_interpreter`: finds or makes the container, has files decided that go in and come out, and runs
the code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, cast

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.documents.file_text import FileReader, image_type
from regate_orchestrator.documents.made_files import MadeFiles
from regate_orchestrator.documents.visible_text import visible_line, visible_text
from regate_orchestrator.errors import NotPermitted, TooLarge
from regate_orchestrator.lineage import FileSource, Lineage, all_of
from regate_orchestrator.ports import CodeFailed, CodeFile, CodeOutcome
from regate_orchestrator.responses.context.gate import Gate
from regate_orchestrator.responses.context.history import History
from regate_orchestrator.responses.tools.calls import failure
from regate_orchestrator.responses.tools.containers import Container, Containers
from regate_orchestrator.responses.tools.kinds.code_interpreter import NO_OUTPUT, CodeInterpreterTool
from regate_orchestrator.responses.tools.tool import ToolCall, ToolResult
from regate_orchestrator.retrieval.stores import OpenStore
from regate_orchestrator.rows import FileRow
from regate_orchestrator.values import FileId, Json, JsonObject, StoreId

_MAX_NAME: Final = 120
_SUFFIXES: Final = {"image/png": "png", "image/jpeg": "jpg"}

NO_CONTAINER: Final = "The code did not run: there is no such container, or no room for a new one."
NO_FILE: Final = "The code did not run: a file of the container is not there or may not be read."
OUTDATED: Final = "The code did not run: the container holds what may no longer be used."


@dataclass(frozen=True, slots=True)
class CodeRunning:
    """What runs code: the containers, what decides what they hold, and what reads and keeps files."""

    containers: Containers
    gate: Gate
    reader: FileReader
    made: MadeFiles
    max_file_bytes: int


class _Refused(Exception):
    """The code does not run; the message is for the model."""


@dataclass(frozen=True, slots=True)
class CodeRunner:
    """Runs code for the loop; none, where no server is configured."""

    running: CodeRunning | None

    async def run(self, context: Context, call: ToolCall, stores: Mapping[StoreId, OpenStore]) -> ToolResult:
        """Return what the code wrote, resting on all that its container may know."""
        running, tool = self.running, cast("CodeInterpreterTool", call.tool)
        if running is None:
            return failure(call, NO_CONTAINER)
        with running.containers.using(context, tool.container, is_new=tool.is_new) as container:
            if container is None:
                return failure(call, NO_CONTAINER)
            async with container.lock:
                try:
                    outcome = await _ran(running, context, container, tool, call)
                except _Refused as refused:
                    return failure(call, str(refused))
                except CodeFailed as failed:
                    await running.containers.discard(container)
                    return failure(call, str(failed))
                except BaseException:  # what was cancelled is not run on
                    await running.containers.discard(container)
                    raise
                lineage = container.lineage
        return await _result(running, context, call, outcome, lineage)


async def _ran(
    running: CodeRunning, context: Context, container: Container, tool: CodeInterpreterTool, call: ToolCall
) -> CodeOutcome:
    if container.is_over:
        raise _Refused(NO_CONTAINER)
    if container.kernel is None:
        files, sources = await _files_for(running, context, tool.files)
        container.kernel = await running.containers.kernels.start(context, files)
        container.lineage = Lineage.of(sources)
    elif earlier := container.lineage.since(tool.lineage):
        # What this turn was not decided with: what files and earlier turns left there.
        history = History((), {source.key: source for source in earlier})
        if (await running.gate.readmit(context, history, phase="code.container")).denied:
            raise _Refused(OUTDATED)
    container.lineage = container.lineage.plus(tool.lineage)
    return await running.containers.kernels.run(
        context, container.kernel, cast("str", (call.arguments or {})["code"])
    )


async def _files_for(
    running: CodeRunning, context: Context, wanted: Sequence[FileId]
) -> tuple[dict[str, bytes], list[FileSource]]:
    """Return the files that go in, by names of their own, each decided for the caller."""
    if not wanted:
        return {}, []
    asked = await running.gate.ask(context, History((), {}), files=wanted)
    decisions, admitted = await running.gate.enforcer.decide_all(context, "code.files", asked.questions)
    readable = running.gate.read(asked, decisions, admitted).files
    files: dict[str, bytes] = {}
    rows = [readable[file] for file in dict.fromkeys(wanted) if file in readable]
    if len(rows) < len(set(wanted)):
        raise _Refused(NO_FILE)
    for row in rows:
        try:
            data = await running.reader.content(row, limit_bytes=running.max_file_bytes)
        except TooLarge as error:
            raise _Refused(f"The code did not run: {error.message}") from error
        files[_name_for(row, files)] = data
    return files, [FileSource(row.id, row.stamp) for row in rows]


def _name_for(row: FileRow, taken: Mapping[str, bytes]) -> str:
    name = _plain(row.filename) or row.id
    return f"{row.id}-{name}" if name in taken else name


def _plain(name: str) -> str:
    """Return the last part of a file's name, as one line that names no place."""
    return visible_line(PurePosixPath(name.replace("\\", "/")).name, most=_MAX_NAME).strip(".")


async def _result(
    running: CodeRunning, context: Context, call: ToolCall, outcome: CodeOutcome, lineage: Lineage
) -> ToolResult:
    """Return what the model reads and what the item shows, with what was made kept for the caller."""
    lines, urls = [visible_text(outcome.logs).strip()], cast("list[Json]", [])
    images = [
        CodeFile(f"image-{number}.{_SUFFIXES[kind]}", data)
        for number, data in enumerate(outcome.images, 1)
        if (kind := image_type(data)) in _SUFFIXES
    ]
    for made in (*images, *outcome.files):
        name = _plain(made.name) or "file"
        try:
            row = await running.made.keep(context, made.data, filename=name, labels=lineage.labels)
        except (NotPermitted, TooLarge):
            lines.append(f"[The file {name} could not be kept.]")
            continue
        lines.append(f"[The user was given the file {name} as {row.id}.]")
        if made in images:
            urls.append(f"/v1/files/{row.id}/content")
    text = "\n".join(filter(None, lines)) or NO_OUTPUT
    shown: JsonObject = {"logs": text, "images": urls}
    rests_on = tuple(all_of([lineage]).values())
    ran: JsonObject = {"container": cast("CodeInterpreterTool", call.tool).container}
    return ToolResult(size=len(text.encode()), text=text, shown=shown, rests_on=rests_on, call=ran)
