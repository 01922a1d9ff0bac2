"""`/v1/prompts`: templates with versions and variables. An extension, since OpenAI has no public way to write
prompts.

How a request uses one is `use.py`; what a template may hold, `template.py`. A version is never changed nor
taken away alone.
"""

from __future__ import annotations

from functools import partial

from starlette.responses import Response

from regate_gateway.http.connection import reply
from regate_gateway.routes.authorized_fetch import (
    fetch_prompt,
    fetch_prompt_version,
    no_such_prompt,
    prompt_view,
    version_number,
)
from regate_gateway.routes.call import Call
from regate_gateway.routes.models import ListQuery
from regate_gateway.routes.prompts.models import PromptRequest, PromptUpdate, PromptVersionRequest
from regate_gateway.routes.prompts.template import read_template
from regate_gateway.routes.serializers import list_object, prompt_object, prompt_version_object
from regate_orchestrator.authz.batches import LISTED_PROMPTS
from regate_orchestrator.authz.decisions import Deny, Point, Question
from regate_orchestrator.authz.lists import Listed
from regate_orchestrator.documents.attributes import split_attributes
from regate_orchestrator.errors import NotPermitted
from regate_orchestrator.quota.storage import stored_size
from regate_orchestrator.rows import PromptRow, PromptVersion
from regate_orchestrator.values import PromptId, mint


async def create(call: Call) -> Response:
    """Answer `POST /v1/prompts`."""
    services, context = call.services, call.context
    asked = await call.body(PromptRequest)
    name, metadata = asked.name, asked.metadata
    requested = split_attributes(metadata, param="metadata").requested
    template, variables = read_template(asked.template)
    identifier = PromptId(mint("pmpt_"))
    question = Question(
        Point.PROMPT,
        "prompt.create",
        {"id": identifier, "name": name, "requested": requested},
        about=identifier,
    )
    decision, stamp = await services.enforcer.stamp(
        context, question, described={"id": identifier, "name": name}
    )
    if isinstance(decision, Deny):
        raise NotPermitted(
            "The policy does not permit this prompt: "
            + ("; ".join(decision.reasons) or "no reason given")
            + "."
        )
    now = int(services.clock())
    row = PromptRow(identifier, name, now, metadata, stamp)
    first = PromptVersion(identifier, 1, now, context.principal.id, template, variables)
    async with call.room("/v1/prompts", stored_size(template)):
        await services.state.prompts.add(row, first)
    return reply(prompt_object(row, first))


async def listing(call: Call) -> Response:
    """Answer `GET /v1/prompts`: those that the policy lets the caller see, without their templates."""
    services = call.services
    listed = Listed(LISTED_PROMPTS, name=lambda row: row.id, view=partial(prompt_view, services))
    page = await services.listings.page(
        call.context,
        listed,
        call.query(ListQuery).page,
        partial(services.state.prompts.page, call.context.principal),
    )
    return reply(list_object([prompt_object(row) for row in page.rows], has_more=page.has_more))


async def retrieve(call: Call) -> Response:
    """Answer `GET /v1/prompts/{id}`, with the template of the default version."""
    return reply(
        await _shown(
            call, await fetch_prompt(call.services, call.context, call.path("prompt_id"), "prompt.read")
        )
    )


async def update(call: Call) -> Response:
    """Answer `POST /v1/prompts/{id}`: another name, another default version, or both."""
    asked = await call.body(PromptUpdate)
    wanted = asked.default_version
    row = await fetch_prompt(call.services, call.context, call.path("prompt_id"), "prompt.update")
    default_version = (
        None if wanted is None else version_number(wanted) or 0
    )  # no version is 0, so it is refused below
    changed = await call.services.state.prompts.update(
        call.context.principal, row.id, name=asked.name, default_version=default_version
    )
    if changed is None:
        raise no_such_prompt(row.id)
    return reply(await _shown(call, changed))


async def delete(call: Call) -> Response:
    """Answer `DELETE /v1/prompts/{id}`: no request can use any version of it from then on."""
    row = await fetch_prompt(call.services, call.context, call.path("prompt_id"), "prompt.delete")
    if not await call.services.state.prompts.delete(call.context.principal, row.id):
        raise no_such_prompt(row.id)
    return reply({"id": row.id, "object": "prompt.deleted", "deleted": True})


async def add_version(call: Call) -> Response:
    """Answer `POST /v1/prompts/{id}/versions`. The new version is not the default until it is made so."""
    template, variables = read_template((await call.body(PromptVersionRequest)).template)
    row = await fetch_prompt(call.services, call.context, call.path("prompt_id"), "prompt.update")
    async with call.room("/v1/prompts/{prompt_id}/versions", stored_size(template)):
        added = await call.services.state.prompts.add_version(
            call.context.principal,
            row.id,
            template=template,
            variables=variables,
            created_at=int(call.services.clock()),
        )
    if added is None:
        raise no_such_prompt(row.id)
    return reply(prompt_version_object(added))


async def versions(call: Call) -> Response:
    """Answer `GET /v1/prompts/{id}/versions`, newest first unless asked otherwise; cursors are version
    numbers.
    """
    page = call.query(ListQuery).page
    row = await fetch_prompt(call.services, call.context, call.path("prompt_id"), "prompt.read")
    found = await call.services.state.prompts.versions(call.context.principal, row.id, page)
    return reply(
        list_object(
            [prompt_version_object(version) for version in found.rows],
            has_more=found.has_more,
            cursor="version",
        )
    )


async def version(call: Call) -> Response:
    """Answer `GET /v1/prompts/{id}/versions/{version}`."""
    row = await fetch_prompt(call.services, call.context, call.path("prompt_id"), "prompt.read")
    return reply(
        prompt_version_object(
            await fetch_prompt_version(call.services, call.context, row, call.path("version"))
        )
    )


async def _shown(call: Call, row: PromptRow) -> dict[str, object]:
    return dict(prompt_object(row, await fetch_prompt_version(call.services, call.context, row, None)))
