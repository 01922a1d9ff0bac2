"""The gate before a request that is passed on: what enters its prompt is decided by the rules, and read by
the means, of `/v1/responses`.

The files that messages name, the outputs of the client's tools, and which tools the model may see; all asked
with the route and the quota, in one record. A conversation of text alone asks for nothing more than these
two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from regate_gateway.routes.call import Call, request_view
from regate_gateway.routes.chat.forwarded import Forwarded
from regate_gateway.routes.chat.messages import EnclosedPart, Messages
from regate_orchestrator.authz.batches import Admitted, Batch
from regate_orchestrator.authz.decisions import Decision
from regate_orchestrator.errors import CallerError, NotPermitted
from regate_orchestrator.quota.limits import quota_question
from regate_orchestrator.responses.client_tools.functions import output_text
from regate_orchestrator.responses.context.history import History
from regate_orchestrator.responses.context.sent_results import tool_result
from regate_orchestrator.responses.message_parts import Reading, files_of
from regate_orchestrator.responses.tools.visible import hidden_tools
from regate_orchestrator.routing import route_question
from regate_orchestrator.rows import FileRow
from regate_orchestrator.upstream_capabilities import UpstreamCapabilities
from regate_orchestrator.values import FileId, Json, JsonObject

_NOTHING: Final = Batch()
_NO_HISTORY: Final = History((), {})


@dataclass(frozen=True, slots=True)
class Admission:
    """What was decided: the route, the quota, the files that may be read, the tools that are hidden,
    the outputs of tools that are admitted.
    """

    route: Decision
    quota: Decision
    files: Mapping[FileId, FileRow]
    hidden: frozenset[str]
    admitted: Admitted


async def admit(call: Call, request: Forwarded) -> Admission:
    """Return what is decided of the request, its messages and its tools, once it is recorded. Refuses
    nothing itself.
    """
    services, context = call.services, call.context
    asked = await services.loop.gate.ask(context, _NO_HISTORY, files=_named_files(request.messages))
    view = request_view(
        call.request.method,
        f"/v1{request.path}",
        request.model,
        stream=request.stream,
        tool_types=request.tool_types,
    )
    questions = [route_question(request.model, view), quota_question(view), *asked.questions]
    outputs = [tool_result(output_text(one.output)) for one in request.messages.outputs]
    deciding = services.enforcer.decide_all(
        context, "route.call", questions, batch=Batch(tool_results=outputs) if outputs else _NOTHING
    )
    if offered := request.tools.offered:
        (decisions, admitted), hidden = await asyncio.gather(
            deciding, hidden_tools(services.enforcer, context, offered)
        )
    else:
        (decisions, admitted), hidden = await deciding, frozenset()
    route, quota, *files = decisions
    return Admission(route, quota, services.loop.gate.read(asked, files, admitted).files, hidden, admitted)


async def members(
    call: Call, request: Forwarded, admission: Admission, capabilities: UpstreamCapabilities
) -> dict[str, Json]:
    """Return the messages and tools that an upstream of these traits is sent. Raises the refusal,
    which names the place.
    """
    for position, output in enumerate(request.messages.outputs):
        if position not in admission.admitted.tool_results:
            raise NotPermitted(
                "The policy does not admit a tool's output of this request.", param=output.place
            )
    messages = [dict(message) for message in request.messages.sent]
    reading = Reading(call.context, admission.files, capabilities)
    for one in request.messages.enclosed:
        content = list(cast("Sequence[Json]", messages[one.message]["content"]))
        content[one.position] = {**await _read(call, one, reading), **one.beside}
        messages[one.message]["content"] = content
    if capabilities.reasoning_field != "none":
        for place, text in request.messages.reasoning.items():
            messages[place][capabilities.reasoning_field] = text
    return {**({"messages": messages} if messages else {}), **request.tools.members(admission.hidden)}


def _named_files(messages: Messages) -> list[FileId]:
    return list(dict.fromkeys(file for one in messages.enclosed for file in files_of(_message(one))))


async def _read(call: Call, one: EnclosedPart, reading: Reading) -> JsonObject:
    try:
        (part,) = await call.services.parts.current(_message(one), reading)
    except CallerError as error:
        error.param = one.place  # where it stands in this request
        raise
    return part.content


def _message(one: EnclosedPart) -> JsonObject:
    return {"type": "message", "role": "user", "content": [one.part]}
