"""Guards at tools: what the model wrote as arguments, and what tools returned, before either goes further."""

from __future__ import annotations

from dataclasses import replace

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.guards.arguments import check_arguments, tool_about
from regate_orchestrator.guards.checking import Guards
from regate_orchestrator.lineage import PageSource
from regate_orchestrator.responses.tools.passage import Passage
from regate_orchestrator.responses.tools.tool import ToolCall, ToolResult
from regate_orchestrator.values import JsonObject


async def guarded_call(guards: Guards, context: Context, call: ToolCall) -> ToolCall | None:
    """Return the call with what guards leave of its arguments; None where they block it."""
    if "tool_arguments" not in guards.steps or not call.written:
        return call
    about = _about(call.tool.called(call.name))
    (written,) = await check_arguments(guards, context, [call.written], about=[about])
    if written is None or written == call.written:
        return None if written is None else call
    arguments = call.tool.kind.read(written)
    return None if arguments is None else replace(call, written=written, arguments=arguments)


async def guarded_result(
    guards: Guards, context: Context, found: ToolResult, tool: JsonObject
) -> ToolResult | None:
    """Return what guards leave of a result; None where they block it. Of pages each is checked by itself, its
    title too, and chunks were checked when they were found.
    """
    pages = [one for one in found.passages if isinstance(one.source, PageSource)]
    if "tool_result" not in guards.steps or not (found.text or pages):
        return found
    texts = [found.text, *(said for page in pages for said in (page.filename, page.text))]
    text, *of_pages = await guards.check(context, "tool_result", texts, about=[_about(tool)] * len(texts))
    if text.is_blocked:
        return None
    left = text.of(found.text) if found.text else ""
    shown = {name: left if said == found.text else said for name, said in found.shown.items()}
    fates = zip(of_pages[::2], of_pages[1::2], strict=True)
    checked = dict(zip((page.source.key for page in pages), fates, strict=True))
    passages: list[Passage] = []
    for one in found.passages:
        if one.source.key not in checked:
            passages.append(one)
            continue
        of_title, of_text = checked[one.source.key]
        if not (of_title.is_blocked or of_text.is_blocked):
            passages.append(replace(one, filename=of_title.of(one.filename), text=of_text.of(one.text)))
    return replace(found, text=left, shown=shown if found.text else found.shown, passages=tuple(passages))


def _about(tool: JsonObject) -> JsonObject:
    return tool_about(str(tool["type"]), str(tool["name"]), str(tool["server_label"]))
