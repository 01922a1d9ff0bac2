"""What only the operator can mend: a key that is refused, and an address without a list of models.
Told once, and shown until it is over.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from regate_adapters.backend.upstreams import Upstreams
from regate_orchestrator.errors import UpstreamError

if TYPE_CHECKING:
    from tests.adapters.backend.conftest import Exchange, ScriptedUpstream

LISTED = {"object": "list", "data": [{"id": "m"}]}


class Answers:
    """What the upstream answers to its list of models, and to everything else."""

    def __init__(self, *, models: int = 200, others: int = 200) -> None:
        self.models = models
        self.others = others

    async def __call__(self, exchange: Exchange) -> None:
        status = self.models if exchange.path.endswith("/models") else self.others
        if status == 200:
            await exchange.answer_json(LISTED)
        else:
            await exchange.answer(status, b'{"error": {"message": "no"}}')


async def ask(pool: Upstreams) -> int:
    try:
        async with pool.open("scripted", "/chat/completions", {"model": "m"}, accept_stream=False):
            return 200
    except UpstreamError as error:
        return error.status


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith("upstream_")]


@pytest.mark.parametrize("status", [401, 403])
async def test_key_that_is_refused_shows_until_it_is_accepted(
    upstream: ScriptedUpstream, upstreams: Upstreams, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    answers = upstream.script = Answers(others=status)
    reach = []
    with caplog.at_level(logging.WARNING):
        for answers.others in (200, status, status, 500, 200):
            await upstreams.model_entries()
            await ask(upstreams)
            reach.append(upstreams.reach()["scripted"])
    assert reach == ["ok", "denied", "denied", "denied", "ok"]
    assert told(caplog) == ["upstream_denied", "upstream_no_longer_denied"]


async def test_key_that_is_refused_for_the_list_shows_at_once(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    upstream.script = Answers(models=401, others=401)
    with pytest.raises(UpstreamError):
        await upstreams.check()
    assert upstreams.reach() == {"scripted": "denied"}


async def test_key_that_is_good_for_all_but_the_list_is_good(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    upstream.script = Answers(models=403)
    assert await ask(upstreams) == 200
    with pytest.raises(UpstreamError):
        await upstreams.check()
    assert upstreams.reach() == {"scripted": "ok"}


@pytest.mark.parametrize("status", [404, 405])
async def test_address_without_a_list_of_models_is_told_as_what_it_is(
    upstream: ScriptedUpstream, upstreams: Upstreams, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    upstream.script = Answers(models=status)
    with caplog.at_level(logging.WARNING), pytest.raises(UpstreamError) as raised:
        await upstreams.serving("m")
    assert upstreams.reach() == {"scripted": "no_models"}
    assert (
        "/v1" in raised.value.detail,
        "operator" in raised.value.message,
        "later" in raised.value.message,
    ) == (True, True, False)
    assert told(caplog) == ["upstream_no_models"]


async def test_list_that_fails_for_a_while_is_asked_for_later(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    upstream.script = Answers(models=503)
    with pytest.raises(UpstreamError, match="Try again later"):
        await upstreams.serving("m")
    assert upstreams.reach() == {"scripted": "ok"}


async def test_models_are_asked_for_at_start_without_being_waited_for(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    upstream.script = Answers()
    upstreams.discover()
    assert upstream.requests == []
    assert await upstreams.serving("m") is not None
    assert [exchange.path for exchange in upstream.requests] == ["/v1/models"]
