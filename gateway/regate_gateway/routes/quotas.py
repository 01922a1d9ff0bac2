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
from regate_gateway.routes.call import Call, Caller, request_view
from regate_orchestrator.authz.decisions import Decision
from regate_orchestrator.authz.limits import QuotaLimits
from regate_orchestrator.errors import BudgetSpent, LimitExceeded, NotPermitted
from regate_orchestrator.model_calls.traced import traced_backend
from regate_orchestrator.ports import BUDGETS, Allowance, Exhausted, Meter, Scope
from regate_orchestrator.quota.limits import granted, quota_question
from regate_orchestrator.quota.metering import (
    NOTHING_USED,
    UNASKED_OUTPUT_TOKENS,
    MeteredBackend,
    Spending,
    Used,
)
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
_UNITS: Final[Mapping[Meter, str]] = {
    "rpm": "requests per minute (RPM)",
    "tpm": "tokens per minute (TPM)",
    "concurrent": "requests at the same time",
}
_BUDGETS: Final = {
    meter: ("money" if unit == "cost" else unit, window)
    for window, meters in BUDGETS.items()
    for unit, meter in meters.items()
}
_WHOSE: Final[Mapping[Scope, str]] = {
    "person": "",
    "role": " by all who hold a role of yours",
    "tenant": " by your tenant",
    "model": " by all who use this model",
}


@dataclass(frozen=True, slots=True)
class Demand:
    """What a request asks for: its input's tokens, the output tokens that it names (None where it
    names none), and whether it has output.
    """

    sent: int
    output: int | None = None
    choices: int = 1
    writes: bool = True

    def needs(self, limits: QuotaLimits) -> Used:
        """Return what the request is taken to need before it is answered."""
        if not self.writes:
            return Used(self.sent)
        output = UNASKED_OUTPUT_TOKENS if self.output is None else self.output
        return Used(self.sent, min(output, limits.max_output_tokens) * self.choices)


async def spend(caller: Caller, decision: Decision, demand: Demand, *, model: str) -> Spending:
    """Return the request counted under the decision on `quota_question`, after having the answer say what is
    left, where it has headers.

    Raises `LimitExceeded` for a limit that is used up (`BudgetSpent` for one of a day or a month), and
    `NotPermitted` where the policy grants nothing at all.
    """
    services, limits = caller.services, granted(decision)
    if demand.writes and not (limits.max_turns and limits.max_output_tokens):
        raise NotPermitted("The policy does not permit you answers of a model.")
    found = await services.quotas.count(caller.context, limits, model=model, needs=demand.needs(limits))
    if isinstance(caller, Call):
        caller.request.scope["state"]["answer_headers"] = rate_headers(found)
    if isinstance(found, Exhausted):
        raise _refusal(found)
    return found


def rate_headers(found: Spending | Exhausted) -> Headers:
    """Return the headers with which the API tells what is left of a minute's limits, in its own spelling: of
    the limit of which the least is left. What is left for all tenants together is told to none.
    """
    left = found.counted.allowances if isinstance(found, Spending) else found.allowances
    headers: Headers = []
    for meter, name in (("rpm", "requests"), ("tpm", "tokens")):
        told = [one for one in left if one.meter == meter and one.scope != "model"]
        if told:
            headers += _headers_of(name, min(told, key=lambda one: one.remaining))
    return headers


def _headers_of(name: str, allowance: Allowance) -> Headers:
    values = {
        "limit": str(allowance.limit),
        "remaining": str(allowance.remaining),
        "reset": duration(allowance.reset_s),
    }
    return [(f"x-ratelimit-{kind}-{name}".encode(), value.encode()) for kind, value in values.items()]


def duration(seconds: float) -> str:
    """Return a duration as the API writes it, rounded up to whole seconds: `1m1s`, `12s`, `7h3m0s`."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _refusal(found: Exhausted) -> LimitExceeded:
    refused, again = found.refused, duration(found.after_s)
    whose = _WHOSE[refused.scope]
    if found.model and refused.scope != "model":
        whose += f" on the model '{found.model}'"
    # How much all tenants together have used is told to none.
    said = "" if refused.scope == "model" else _used(refused)
    if refused.meter in _BUDGETS:
        unit, window = _BUDGETS[refused.meter]
        spent = "" if unit == "money" else said
        message = f"The budget of {unit} for this {window}{whose} is spent{spent}. It is renewed in {again}."
        return BudgetSpent(message, retry_after=found.after_s)
    asked = f"{said}, requested {found.asked}" if said else ""
    message = f"Rate limit reached on {_UNITS[refused.meter]}{whose}{asked}. Try again in {again}."
    return LimitExceeded(message, retry_after=found.after_s)


def _used(refused: Allowance) -> str:
    return f": limit {refused.limit}, used {refused.limit - refused.remaining}"


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
        view = request_view("POST", path, request.model, stream=request.stream, tool_types=request.tool_types)
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
            demand = Demand(sent, request.max_output_tokens)
            spending = await spend(caller, decision, demand, model=request.model)
            try:
                narrowed = narrowed_request(request, spending.limits)
            except NotPermitted:
                await spending.used(NOTHING_USED)
                await spending.end()
                raise
            held = opening.pop_all()
        backend = MeteredBackend(traced_backend(caller.services.backend, caller.context), spending)

        async def finalize() -> None:
            async with held:
                if not backend.calls:  # it stands for no tokens then
                    await spending.used(NOTHING_USED)
                await spending.end()

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
