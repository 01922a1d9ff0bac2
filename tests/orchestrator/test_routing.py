"""Which upstream serves a request: the policy's word is binding, and what cannot be done is a refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from tests.orchestrator.scripted import CONTEXT, Policy, Records

from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.errors import NotFound, PolicyUnavailable
from regate_orchestrator.ports import Serving
from regate_orchestrator.routing import MAX_OUTPUT_TOKENS, NO_STORE, Chosen, Obligations, choose_upstream
from regate_orchestrator.upstream_capabilities import UpstreamCapabilities
from regate_orchestrator.values import Json

EVERYTHING = frozenset({NO_STORE, MAX_OUTPUT_TOKENS})


@dataclass
class Models:
    """A catalogue with a script: model to the upstreams that serve it, of which the first has the
    second in its place.
    """

    served: Mapping[str, Sequence[str]] = field(
        default_factory=lambda: {"small": ("vllm", "spare"), "large": ("vllm",)}
    )
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    async def serving(self, model: str, *, by: str | None = None) -> Serving | None:
        self.asked.append((model, by))
        upstreams = self.served.get(model, ())
        if by is not None:
            return Serving(by) if by in upstreams else None
        return Serving(upstreams[0], tuple(upstreams[1:])) if upstreams else None

    def capabilities(self, upstream: str) -> UpstreamCapabilities:
        raise AssertionError("not asked for")


async def chosen(
    model: str = "small",
    *,
    supported: frozenset[str] = frozenset(),
    allowed: bool = True,
    models: Models | None = None,
    **said: Json,
) -> Chosen:
    rules = {f"regate/route/{name}": value for name, value in said.items()}
    enforcer = Enforcer(Policy(answers={"regate/route/allow": allowed} | rules), Records(), {})
    return await choose_upstream(
        CONTEXT, model, {"model": model}, enforcer=enforcer, catalogue=models or Models(), supported=supported
    )


async def test_without_a_word_of_the_policy_the_configuration_decides() -> None:
    assert await chosen() == Chosen("vllm", ("spare",), Obligations(), "r1")


async def test_upstream_that_the_policy_names_is_the_only_one() -> None:
    assert await chosen(backend="spare") == Chosen("spare", (), Obligations(), "r1")


@pytest.mark.parametrize("backend", ["elsewhere", "", None, 7, ["vllm"], {"name": "vllm"}])
async def test_upstream_that_cannot_serve_is_a_refusal_and_never_another_one(backend: Json) -> None:
    with pytest.raises(PolicyUnavailable) as raised:
        await chosen(backend=backend)

    assert "regate/route/backend" in raised.value.detail


async def test_named_upstream_must_serve_the_very_model() -> None:
    with pytest.raises(PolicyUnavailable):
        await chosen("large", backend="spare")


async def test_unknown_and_denied_models_are_one_error_and_the_denied_asks_no_upstream() -> None:
    models = Models()
    with pytest.raises(NotFound) as unknown:
        await chosen("none")
    with pytest.raises(NotFound) as denied:
        await chosen("none", allowed=False, models=models)

    assert (unknown.value.message, unknown.value.code, models.asked) == (
        denied.value.message,
        denied.value.code,
        [],
    )


@pytest.mark.parametrize("obligations", [{}, {"no_store": False}, {"max_output_tokens": None}])
async def test_obligations_that_ask_for_nothing_are_met_by_anybody(obligations: Json) -> None:
    assert (await chosen(obligations=obligations)).obligations == Obligations()


async def test_obligations_that_can_be_met_are_handed_on() -> None:
    asked: Json = {"no_store": True, "max_output_tokens": 100}

    assert (await chosen(obligations=asked, supported=EVERYTHING)).obligations == Obligations(
        no_store=True, max_output_tokens=100
    )


@pytest.mark.parametrize(
    ("obligations", "supported"),
    [
        ({"no_store": True}, frozenset({MAX_OUTPUT_TOKENS})),
        ({"max_output_tokens": 5}, frozenset({NO_STORE})),
        ({"watermark": True}, EVERYTHING),
        ({"watermark": False}, EVERYTHING),
        ({"max_output_tokens": 0}, EVERYTHING),
        ({"max_output_tokens": True}, EVERYTHING),
        ({"max_output_tokens": "5"}, EVERYTHING),
        ({"no_store": "no"}, EVERYTHING),
        ([], EVERYTHING),
        (None, EVERYTHING),
        (True, EVERYTHING),
    ],
)
async def test_obligation_that_cannot_be_met_is_a_refusal(
    obligations: Json, supported: frozenset[str]
) -> None:
    with pytest.raises(PolicyUnavailable):
        await chosen(obligations=obligations, supported=supported)
