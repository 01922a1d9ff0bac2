"""Routing: which upstream serves a model that the caller may use, and what must be done with the answer. The
policy first, then the configuration.

`regate.route.backend` is binding: what it names and cannot serve is a refusal, never another upstream. An
obligation that the caller of this module does not declare itself able to meet is a refusal too. Not which
upstreams there are (`ports.Catalogue`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from regate_orchestrator.authz.decisions import Allow, Context, Decision, Deny, Point, Question
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.errors import NotFound, PolicyUnavailable
from regate_orchestrator.ports import Catalogue, Serving
from regate_orchestrator.values import Json, JsonObject

BACKEND: Final = "backend"
OBLIGATIONS: Final = "obligations"
NO_STORE: Final = "no_store"
MAX_OUTPUT_TOKENS: Final = "max_output_tokens"


@dataclass(frozen=True, slots=True)
class Obligations:
    """What the policy attaches to an allow. Whoever declares itself able to meet one must meet it."""

    no_store: bool = False
    """The answer must not be stored."""
    max_output_tokens: int | None = None
    """The most tokens of one answer."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The upstream that serves a permitted request, what must be done with its answer, and the policy
    revision that says so.
    """

    upstream: str
    alternates: tuple[str, ...]
    obligations: Obligations
    revision: str


def route_question(model: str, request: JsonObject) -> Question:
    """Return the question whether this model may be called so, with all that qualifies an allow.
    `request` is the input's key of that name.
    """
    return Question(
        Point.ROUTE, "route.call", {"request": request}, about=model, companions=(BACKEND, OBLIGATIONS)
    )


async def choose_upstream(
    context: Context,
    model: str,
    request: JsonObject,
    *,
    enforcer: Enforcer,
    catalogue: Catalogue,
    supported: frozenset[str],
) -> Chosen:
    """Return the upstream for a request, after recording the decision; raises as `serve` does.

    `able` names the obligations that the caller will meet. A caller with more to decide asks `route_question`
    among its own and calls `serve`.
    """
    decision = await enforcer.decide(context, route_question(model, request))
    return await serve(decision, model, catalogue=catalogue, supported=supported)


async def serve(decision: Decision, model: str, *, catalogue: Catalogue, supported: frozenset[str]) -> Chosen:
    """Return the upstream that serves a model under the decision on `route_question`.

    Raises the one error for unknown and not granted; `PolicyUnavailable` where the policy asks for what
    cannot be done; and `UpstreamError` when it is not known who serves the model.
    """
    if isinstance(decision, Deny):
        raise no_such_model(model)
    obligations = _obligations(decision.decision_attributes.get(OBLIGATIONS, {}), supported)
    serving = await _serving(decision, model, catalogue)
    return Chosen(serving.upstream, serving.alternates, obligations, decision.revision)


def no_such_model(model: str) -> NotFound:
    """Return the one error for a model that is unknown or not granted."""
    message = f"The model '{model}' does not exist or you do not have access to it."
    return NotFound(message, param="model", code="model_not_found")


async def _serving(decision: Allow, model: str, catalogue: Catalogue) -> Serving:
    if BACKEND not in decision.decision_attributes:
        serving = await catalogue.serving(model)
        if serving is None:
            raise no_such_model(model)
        return serving
    backend = decision.decision_attributes[BACKEND]
    if not isinstance(backend, str):
        raise PolicyUnavailable(f"{Point.ROUTE.package}/{BACKEND} is not a name: {backend!r}")
    serving = await catalogue.serving(model, by=backend)
    if serving is None:
        raise PolicyUnavailable(
            f"{Point.ROUTE.package}/{BACKEND} names {backend!r}, which is not configured or does not "
            f"serve {model!r}"
        )
    return serving


def _obligations(value: Json, supported: frozenset[str]) -> Obligations:
    if not isinstance(value, Mapping):
        raise PolicyUnavailable(f"{Point.ROUTE.package}/{OBLIGATIONS} is not an object")
    no_store, most = value.get(NO_STORE, False), value.get(MAX_OUTPUT_TOKENS)
    if not isinstance(no_store, bool):
        raise PolicyUnavailable(f"{Point.ROUTE.package}/{OBLIGATIONS}: {NO_STORE} is neither true nor false")
    if most is not None and (type(most) is not int or most < 1):
        raise PolicyUnavailable(
            f"{Point.ROUTE.package}/{OBLIGATIONS}: {MAX_OUTPUT_TOKENS} is not a whole number of 1 or more"
        )
    # One that asks for nothing (`no_store: false`) can be met by anybody, but only if it is known what it
    # asks for.
    idle = {
        name for name, asked in ((NO_STORE, no_store), (MAX_OUTPUT_TOKENS, most is not None)) if not asked
    }
    if unmet := sorted(value.keys() - supported - idle):
        raise PolicyUnavailable(
            f"{Point.ROUTE.package}/{OBLIGATIONS} asks for what is not done here: {', '.join(unmet)}"
        )
    return Obligations(no_store, most if type(most) is int else None)
