"""Reaching an object by id: look it up as the caller, decide the action on it, and answer foreign exactly as
absent (I7).

An absent object is decided about as well, as a row without fields, so that it costs what a denied one costs.
A denied action is 403 only where the caller may see the object; otherwise it is the same 404.
"""

from __future__ import annotations

import re
from typing import Final

from regate_gateway.services import Services
from regate_orchestrator.authz.decisions import Allow, Context, Point, Question
from regate_orchestrator.errors import NotFound, NotPermitted
from regate_orchestrator.rows import ConversationRow, FileRow, PromptRow, PromptVersion, ResponseRow, StoreRow
from regate_orchestrator.values import ConversationId, FileId, JsonObject, PromptId, ResponseId, StoreId

_ABSENT: JsonObject = {"id": ""}
_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}")


async def fetch_store(
    services: Services, context: Context, store: str, action: str, *, param: str | None = None
) -> StoreRow:
    """Return the vector store's row, decided for the action."""
    row = await services.state.vector_stores.get(context.principal, StoreId(store))
    view = _ABSENT if row is None else services.retrieval.view(row)
    allowed = await _decide(
        services, context, Point.STORE, action, {"store": view}, about=store, read="store.read"
    )
    if row is None or not allowed:
        raise NotFound.of("vector store", store, param=param)
    return row


async def fetch_file(
    services: Services, context: Context, file: str, action: str, *, param: str | None = None
) -> FileRow:
    """Return the file's row, decided for the action."""
    row = await services.state.files.get(context.principal, FileId(file))
    view = _ABSENT if row is None else file_view(services, row)
    allowed = await _decide(
        services, context, Point.FILE, action, {"file": view}, about=file, read="file.read"
    )
    if row is None or not allowed:
        raise NotFound.of("file", file, param=param)
    return row


async def fetch_response(services: Services, context: Context, response: str, action: str) -> ResponseRow:
    """Return the response's row with its items, decided for the action."""
    row = await services.state.responses.get(context.principal, ResponseId(response))
    view = _ABSENT if row is None else row.view()
    allowed = await _decide(
        services, context, Point.HISTORY, action, {"item": view}, about=response, read="response.read"
    )
    if row is None or not allowed:
        raise NotFound(f"Response with id '{response}' not found.", code="not_found")
    return row


async def fetch_conversation(
    services: Services, context: Context, conversation: str, action: str
) -> ConversationRow:
    """Return the conversation's row, decided for the action."""
    row = await services.state.conversations.get(context.principal, ConversationId(conversation))
    view = _ABSENT if row is None else row.view()
    allowed = await _decide(
        services, context, Point.HISTORY, action, {"item": view}, about=conversation, read="conversation.read"
    )
    if row is None or not allowed:
        raise no_conversation(conversation)
    return row


def no_conversation(conversation: str) -> NotFound:
    """Return the one error for a conversation that is absent, invisible, or gone meanwhile."""
    return NotFound(f"Conversation with id '{conversation}' not found.", code="not_found")


async def fetch_prompt(
    services: Services, context: Context, prompt: str, action: str, *, param: str | None = None
) -> PromptRow:
    """Return the prompt's row, decided for the action."""
    row = await services.state.prompts.get(context.principal, PromptId(prompt))
    view = _ABSENT if row is None else prompt_view(services, row)
    allowed = await _decide(
        services, context, Point.PROMPT, action, {"prompt": view}, about=prompt, read="prompt.read"
    )
    if row is None or not allowed:
        raise no_such_prompt(prompt, param=param)
    return row


async def fetch_prompt_version(
    services: Services, context: Context, row: PromptRow, version: str | None, *, param: str | None = None
) -> PromptVersion:
    """Return a version of a prompt that was decided about, by the number that a client wrote; None is
    the default version.
    """
    number = row.default_version if version is None else version_number(version)
    found = (
        None if number is None else await services.state.prompts.version(context.principal, row.id, number)
    )
    if found is None:
        if version is None:  # a prompt has its default version for as long as it is there
            raise no_such_prompt(row.id)
        raise NotFound(
            f"Version '{version}' of prompt with id '{row.id}' not found.", param=param, code="not_found"
        )
    return found


def version_number(text: str) -> int | None:
    """Return the number of a version as clients write it, or None when the text is no such number."""
    return int(text) if _VERSION.fullmatch(text) else None


def no_such_prompt(prompt: str, *, param: str | None = None) -> NotFound:
    """Return the one wording for a prompt that is absent or invisible."""
    return NotFound(f"Prompt with id '{prompt}' not found.", param=param, code="not_found")


def prompt_view(services: Services, row: PromptRow) -> JsonObject:
    """Return the prompt as policies see it (`rego/schemas/prompt.json`): nothing of its templates."""
    return services.schemas["prompt"].canonical({**row.stamp, "id": row.id, "name": row.name})


def file_view(services: Services, row: FileRow) -> JsonObject:
    """Return the file as policies see it (`rego/schemas/file.json`)."""
    return services.schemas["file"].canonical(
        {**row.stamp, "id": row.id, "filename": row.filename, "purpose": row.purpose}
    )


async def _decide(
    services: Services,
    context: Context,
    point: Point,
    action: str,
    resource: JsonObject,
    *,
    about: str,
    read: str,
) -> bool:
    """Return whether the action is allowed; raises `NotPermitted` when it is not but reading is."""
    decision = await services.enforcer.decide(context, Question(point, action, resource, about=about))
    if isinstance(decision, Allow):
        return True
    if action != read:
        seen = await services.enforcer.decide(context, Question(point, read, resource, about=about))
        if isinstance(seen, Allow):
            raise NotPermitted(
                "The policy does not permit this: " + ("; ".join(decision.reasons) or action) + "."
            )
    return False
