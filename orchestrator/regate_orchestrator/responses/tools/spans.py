"""What traces are told of a tool call (OpenTelemetry's conventions for GenAI tools): the tool and how it came
out. Never its arguments or its result. Not `trace.py`, which is what policies know of earlier calls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from regate_orchestrator.principal import Context
from regate_orchestrator.responses.events import ToolRan
from regate_orchestrator.responses.tools.tool import ToolCall
from regate_orchestrator.tracing.spans import (
    OPERATION,
    OUTCOME,
    TOOL_CALL_ID,
    TOOL_KIND,
    TOOL_NAME,
    TOOL_SERVER,
    TOOL_TYPE,
    TraceSpan,
    Value,
    error_type,
    plain,
)

_EXTENSION: Final = "extension"
"""What the conventions call a tool that runs on the side of whoever runs the loop."""


async def traced_call(
    context: Context, span: TraceSpan, call: ToolCall, run: Callable[[Context], Awaitable[ToolRan]]
) -> ToolRan:
    """Return what the call came to, run in the context of a span of its own below this one."""
    kind, called = call.tool.kind.type, call.tool.called(call.name)
    name = plain(called["name"])
    attributes: dict[str, Value] = {
        **context.ids,
        OPERATION: "execute_tool",
        TOOL_NAME: name,
        TOOL_TYPE: _EXTENSION,
        TOOL_KIND: kind,
        TOOL_CALL_ID: call.item_id,
    }
    if called["server_label"]:
        attributes[TOOL_SERVER] = plain(called["server_label"])
    own = span.begin(f"execute_tool {name}", attributes)
    error = ""
    try:
        ran = await run(context.within(own))
    except BaseException as raised:
        error = error_type(raised)
        raise
    else:
        own.note({OUTCOME: _outcome(ran)})
        return ran
    finally:
        own.end(error=error)


def _outcome(ran: ToolRan) -> str:
    if ran.result is None:
        return "withheld"
    return "failed" if ran.result.failed else "completed"
