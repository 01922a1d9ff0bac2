"""The providers of web search, each before a server in its own shape, over the guard of egress."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.adapters.backend.conftest import Exchange, ScriptedUpstream
from tests.adapters.egress.conftest import World, engine, server
from tests.orchestrator.scripted import CONTEXT

from regate_adapters.egress.services import GuardedServiceClient
from regate_adapters.opa.engine import OpaEngine
from regate_adapters.web_search.brave import BraveSearch
from regate_adapters.web_search.searxng import SearxngSearch
from regate_adapters.web_search.service import SearchService
from regate_adapters.web_search.tavily import TavilySearch
from regate_orchestrator.ports import SearchFailed, WebHit, WebPlace, WebQuery

__all__ = ["engine", "server"]
pytestmark = pytest.mark.asyncio(loop_scope="session")

QUERY = WebQuery(
    "leave & days", 2, ("a.example", "b.example"), WebPlace("DE", "Bayern", "München", "Europe/Berlin")
)
SITES = "leave & days (site:a.example OR site:b.example)"


@dataclass(frozen=True)
class Provider:
    """A provider, what its service answers, and how it is to be asked."""

    make: Callable[[SearchService], Any]
    text: str
    wrap: Callable[[list[Any]], Any]
    path: str
    asked: dict[str, Any]
    headers: dict[str, str]


PROVIDERS = {
    "searxng": Provider(
        SearxngSearch,
        "content",
        lambda hits: {"results": hits, "answers": []},
        "/search",
        {"q": [SITES], "format": ["json"]},
        {"authorization": "Bearer k3y"},
    ),
    "brave": Provider(
        BraveSearch,
        "description",
        lambda hits: {"type": "search", "web": {"results": hits}},
        "/res/v1/web/search",
        {"q": [SITES], "count": ["2"], "country": ["DE"]},
        {
            "x-subscription-token": "k3y",
            "x-loc-country": "DE",
            "x-loc-state-name": "Bayern",
            "x-loc-timezone": "Europe/Berlin",
        },
    ),
    "tavily": Provider(
        TavilySearch,
        "content",
        lambda hits: {"query": "q", "results": hits},
        "/search",
        {"query": "leave & days", "max_results": 2, "include_domains": ["a.example", "b.example"]},
        {"authorization": "Bearer k3y"},
    ),
}


def hits(member: str) -> list[Any]:
    return [
        {
            "url": "https://a.example/1",
            "title": "One",
            member: "the <strong>first</strong> &amp; best: 1 < 2",
        },
        {"title": "without an address"},
        "no hit",
        {"url": "https://a.example/2", "title": None},
        {"url": "https://a.example/3", "title": "Three", member: "third"},
    ]


def provider(name: str, world: World, server: ScriptedUpstream, **service: Any) -> Any:
    address = f"http://127.0.0.1:{server.port}"
    return PROVIDERS[name].make(SearchService(GuardedServiceClient(world.guard), address, "k3y", **service))


@pytest.mark.parametrize("name", PROVIDERS)
async def test_search_asks_in_the_providers_shape_and_reads_its_hits(
    engine: OpaEngine, server: ScriptedUpstream, name: str
) -> None:
    known = PROVIDERS[name]

    async def answer(exchange: Exchange) -> None:
        await exchange.answer_json(known.wrap(hits(known.text)))

    server.script = answer
    world = World(engine)
    found = await provider(name, world, server).search(CONTEXT, QUERY)
    (exchange,) = server.requests
    target = urlsplit(exchange.path)
    headers = {name.lower(): value for name, value in exchange.headers}

    assert found == [
        WebHit("https://a.example/1", "One", "the first & best: 1 < 2"),
        WebHit("https://a.example/2", "", ""),
    ]
    assert target.path == known.path
    assert (json.loads(exchange.body) if exchange.body else parse_qs(target.query)) == known.asked
    assert known.headers.items() <= headers.items()
    assert [(one["action"], one["allowed"]) for one in world.decisions] == [("egress.connect", True)]
    assert world.decisions[0]["resource"]["destination"]["operator_named"] is True


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize(
    "said",
    [
        (500, b"the key is k3y"),
        (429, b"{}"),
        (302, b""),
        (200, b"no json"),
        (200, b"[]"),
        (200, b"x" * 5_000_000),
    ],
    ids=["error", "too many", "elsewhere", "no JSON", "a list", "too long"],
)
async def test_a_service_without_a_usable_answer_is_told_without_its_words(
    engine: OpaEngine, server: ScriptedUpstream, name: str, said: tuple[int, bytes]
) -> None:
    async def answer(exchange: Exchange) -> None:
        with suppress(ConnectionError):  # the reader may have had enough
            await exchange.answer(*said, "Location: http://127.0.0.1/")

    server.script = answer
    with pytest.raises(SearchFailed) as failed:
        await provider(name, World(engine), server).search(CONTEXT, QUERY)

    assert str(failed.value) == "The search provider gave no usable answer."
    assert len(server.requests) == 1


async def test_a_slow_service_is_not_waited_for(engine: OpaEngine, server: ScriptedUpstream) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.gone()

    server.script = answer
    with pytest.raises(SearchFailed):
        await provider("tavily", World(engine), server, deadline_s=0.1).search(CONTEXT, QUERY)


async def test_a_service_in_a_private_network_that_is_not_listed_is_not_asked(
    engine: OpaEngine, server: ScriptedUpstream
) -> None:
    with pytest.raises(SearchFailed):
        await provider("searxng", World(engine, private=()), server).search(CONTEXT, QUERY)

    assert server.requests == []
