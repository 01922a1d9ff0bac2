"""Quotas at the edge: what a request may spend, as a refusal, as headers, and as limits of what the request
itself asked for.

Asked for and counted once for each request that calls a model, before the call; every such request counts,
one that is refused later included. What is spent in the end is told by `usage.py` for answers that pass
through, and by `MeteredBackend` for the loop.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Final

from regate_gateway.http.errors import Headers
from regate_gateway.routes.call import Call, Caller
from regate_orchestrator.authz.decisions import Decision
from regate_orchestrator.authz.limits import QuotaLimits
from regate_orchestrator.errors import LimitExceeded, NotPermitted
from regate_orchestrator.ports import Allowance, Exhausted
from regate_orchestrator.quota.limits import granted, quota_question
from regate_orchestrator.quota.metering import UNASKED_OUTPUT_TOKENS, MeteredBackend, Spending
from regate_orchestrator.quota.storage import stored_size
from regate_orchestrator.responses.granting import Grant, Granted
from regate_orchestrator.responses.request import Limits, ResponseRequest
from regate_orchestrator.responses.tools.kinds.file_search import FileSearchTool
from regate_orchestrator.responses.tools.tool import ServerTool
from regate_orchestrator.tokens import estimated_tokens
from regate_orchestrator.values import Json, JsonObject

MAX_OUTPUT_TOKENS: Final = 10_000_000
"""The most that the API lets a request ask for. A limit of as much lowers nothing, and none is sent:
backends refuse what exceeds their own.
"""

_OUTPUT_LIMITS: Final = ("max_tokens", "max_completion_tokens")
_CHOICES: Final = ("n", "best_of")
_UNITS: Final = {"requests": "requests per minute (RPM)", "tokens": "tokens per minute (TPM)"}


@dataclass(frozen=True, slots=True)
class Demand:
    """What a request asks for: its input's tokens, the output tokens that it names (None where it
    names none), and whether it has output.
    """

    sent: int
    output: int | None = None
    choices: int = 1
    writes: bool = True

    def tokens(self, limits: QuotaLimits) -> int:
        """Return what the request is taken to need before it is answered."""
        if not self.writes:
            return self.sent
        output = UNASKED_OUTPUT_TOKENS if self.output is None else self.output
        return self.sent + min(output, limits.max_output_tokens) * self.choices


async def spend(caller: Caller, decision: Decision, demand: Demand) -> Spending:
    """Return the request counted under the decision on `quota_question`, after having the answer say what is
    left, where it has headers.

    Raises `LimitExceeded` for a limit that is used up, and `NotPermitted` where the policy grants nothing at
    all.
    """
    services, limits = caller.services, granted(decision)
    if demand.writes and not (limits.max_turns and limits.max_output_tokens):
        raise NotPermitted("The policy does not permit you answers of a model.")
    found = await services.quotas.count(caller.context, limits, tokens=demand.tokens(limits))
    if isinstance(caller, Call):
        caller.request.scope["state"]["answer_headers"] = rate_headers(found)
    if isinstance(found, Exhausted):
        raise LimitExceeded(_refusal(found), retry_after=found.after_s)
    return found


def rate_headers(found: Spending | Exhausted) -> Headers:
    """Return the headers with which the API tells what is left, in its own spelling."""
    left = found.counted if isinstance(found, Spending) else found
    return [*_headers_of("requests", left.requests), *_headers_of("tokens", left.tokens)]


def _headers_of(name: str, allowance: Allowance) -> Headers:
    values = {
        "limit": str(allowance.limit),
        "remaining": str(allowance.remaining),
        "reset": duration(allowance.reset_s),
    }
    return [(f"x-ratelimit-{kind}-{name}".encode(), value.encode()) for kind, value in values.items()]


def duration(seconds: float) -> str:
    """Return a duration as the API writes it, rounded up to whole seconds: `1m1s`, `12s`."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _refusal(found: Exhausted) -> str:
    allowance = found.requests if found.limit == "requests" else found.tokens
    used = allowance.limit - allowance.remaining
    return (
        f"Rate limit reached on {_UNITS[found.limit]}: limit {allowance.limit}, used {used}, requested "
        f"{found.asked}. "
        f"Try again in {duration(found.after_s)}."
    )


# ---------------------------------------------------------------- answers that pass through


def forwarded_demand(values: Mapping[str, Json], *, writes: bool) -> Demand:
    """Return what a request that is passed on asks for."""
    named = [
        limit
        for name in _OUTPUT_LIMITS
        if isinstance(limit := values.get(name), int) and not isinstance(limit, bool) and limit > 0
    ]
    sent = {
        name: value
        for name, value in values.items()
        if name in ("messages", "prompt", "input", "tools", "functions")
    }
    return Demand(estimated_tokens(sent), min(named, default=None), _choices(values), writes)


def within_output_limit(body: dict[str, Json], limits: QuotaLimits) -> dict[str, Json]:
    """Return the body with its limits on output tokens lowered to the policy's, for all choices
    together; one is set where it has none.
    """
    if limits.max_output_tokens >= MAX_OUTPUT_TOKENS:
        return body
    most = limits.max_output_tokens // _choices(body)
    if most == 0:
        raise NotPermitted(
            (
                f"The policy permits you {limits.max_output_tokens} output tokens, fewer than the choices "
                "asked for."
            ),
            param="n",
        )
    named = [name for name in _OUTPUT_LIMITS if name in body] or _OUTPUT_LIMITS[:1]
    return body | {name: _lower(body.get(name), most) for name in named}


def _lower(value: Json, most: int) -> Json:
    return min(value, most) if isinstance(value, int | float) else most


def _choices(values: Mapping[str, Json]) -> int:
    """Return how many answers are asked for: so many for each prompt, where there are several (several
    texts, or lists of tokens).
    """
    prompt = values.get("prompt")
    prompts = (
        len(prompt) if isinstance(prompt, list) and not all(isinstance(token, int) for token in prompt) else 1
    )
    return prompts * max(
        [1, *(int(count) for name in _CHOICES if isinstance(count := values.get(name), int | float))]
    )


# ---------------------------------------------------------------- responses


def granting(caller: Caller, path: str) -> Grant:
    """Return what counts and narrows a request at this path. It raises as `spend` does."""

    async def grant(request: ResponseRequest) -> Granted:
        view: JsonObject = {
            "method": "POST",
            "path": path,
            "model": request.model,
            "stream": request.stream,
            "tool_types": list(request.tool_types),
        }
        sent = estimated_tokens(
            [request.instructions, list(request.items), *[tool.parameters for tool in request.client_tools]]
        )
        async with AsyncExitStack() as opening:
            if request.store:
                size = stored_size(list(request.items))
                await opening.enter_async_context(
                    caller.services.storage.room(caller.context, view, size=size)
                )
            decision = await caller.services.enforcer.decide(caller.context, quota_question(view))
            spending = await spend(caller, decision, Demand(sent, request.max_output_tokens))
            try:
                narrowed = narrowed_request(request, spending.limits)
            except NotPermitted:
                await spending.used(0)
                raise
            held = opening.pop_all()
        backend = MeteredBackend(caller.services.backend, spending)

        async def finalize() -> None:
            async with held:
                if not backend.calls:  # it stands for no tokens then
                    await spending.used(0)

        return Granted(narrowed, _within(caller.services.loop.limits, spending.limits), backend, finalize)

    return grant


def _within(limits: Limits, granted: QuotaLimits) -> Limits:
    return Limits(
        min(limits.max_rounds, granted.max_turns), min(limits.max_tool_calls, granted.max_tool_calls)
    )


def narrowed_request(request: ResponseRequest, limits: QuotaLimits) -> ResponseRequest:
    """Return the request with its output tokens and the chunks of a search lowered to the limits.
    Raises `NotPermitted` for a search of none.
    """
    if limits.max_output_tokens < MAX_OUTPUT_TOKENS:
        asked = limits.max_output_tokens if request.max_output_tokens is None else request.max_output_tokens
        request = replace(request, max_output_tokens=min(asked, limits.max_output_tokens))
    for tool in request.server_tools:
        narrowed = _narrowed_tool(tool, limits)
        tools = tuple(narrowed if one is tool else one for one in request.server_tools)
        echo = tuple(narrowed.echo if one is tool.echo else one for one in request.tools_echo)
        request = replace(request, server_tools=tools, tools_echo=echo)
    return request


def _narrowed_tool(tool: ServerTool, limits: QuotaLimits) -> ServerTool:
    searches = isinstance(tool, FileSearchTool)
    if not limits.max_tool_calls or (searches and not limits.max_chunks):
        raise NotPermitted(f"The policy does not permit you '{tool.kind.type}'.", param="tools")
    if not isinstance(tool, FileSearchTool) or tool.limit <= limits.max_chunks:
        return tool
    fewer: JsonObject = {**tool.echo, "max_num_results": limits.max_chunks}
    return replace(tool, limit=limits.max_chunks, echo=fewer)
