"""Nothing goes out that is not decided, and nowhere but to the addresses that were checked."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from tests.adapters.backend.conftest import Exchange, ScriptedUpstream
from tests.adapters.egress.conftest import World

from regate_adapters.egress.transport import PinnedTransport
from regate_adapters.opa.engine import OpaEngine
from regate_orchestrator.errors import EgressDenied, FetchFailed, InvalidRequest, PolicyUnavailable

pytestmark = pytest.mark.asyncio(loop_scope="session")

PUBLIC = "93.184.216.34"
SPELLINGS = (
    "https://127.0.0.1/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://10.0.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://[fd00:ec2::254]/",
    "https://0.0.0.0/",
    "https://[::]/",
    "https://１２７.0.0.1/",
    "https://127。0。0。1/",
    "https://2130706433/",
    "https://0x7f.1/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://localhost/",
    "https://metadata.test/",
)
LOCAL = {"localhost": [["127.0.0.1", "::1"]], "metadata.test": [["169.254.169.254"]]}


@pytest.mark.parametrize("url", SPELLINGS)
async def test_no_spelling_of_a_private_address_is_connected_to(engine: OpaEngine, url: str) -> None:
    world = World(engine, names=dict(LOCAL), private=())

    with pytest.raises((EgressDenied, InvalidRequest)):
        await world.let_out(url, "image")  # every public host is listed for images
    assert ("image", "let_out") not in world.outcomes


@pytest.mark.parametrize(
    "answers", [["10.0.0.1"], [PUBLIC, "10.0.0.1"], ["10.0.0.1", PUBLIC], [PUBLIC, "::1"]]
)
async def test_one_private_answer_among_public_ones_refuses_them_all(
    engine: OpaEngine, answers: list[str]
) -> None:
    world = World(engine, names={"x.test": [answers]}, private=())

    with pytest.raises(EgressDenied) as refused:
        await world.let_out("https://x.test/", "image")
    assert "10.0.0.1" not in refused.value.message


async def test_a_denied_name_is_not_even_looked_up(engine: OpaEngine) -> None:
    world = World(engine, names={"secret.evil.test": [[PUBLIC]]})

    with pytest.raises(EgressDenied):
        await world.let_out("https://secret.evil.test/")
    assert world.names.asked == []


@pytest.mark.parametrize(
    ("url", "purpose", "is_let_out"),
    [
        ("https://docs.test/", "file", True),
        ("https://en.wikipedia.test/", "page", True),
        ("https://other.test/", "image", True),
        ("https://other.test/", "file", False),
        ("https://docs.test/", "page", False),
        ("https://other.test/", "mcp", False),
        ("https://docs.test/", "code", False),
        ("https://docs.test:8443/", "file", False),
        ("http://docs.test/", "file", False),
    ],
)
async def test_what_a_client_names_is_let_out_where_the_policy_lists_it(
    engine: OpaEngine, url: str, purpose: Any, is_let_out: bool
) -> None:
    names = {name: [[PUBLIC]] for name in ("docs.test", "en.wikipedia.test", "other.test")}
    world = World(engine, names=names)

    if is_let_out:
        assert [str(one) for one in (await world.let_out(url, purpose)).addresses] == [PUBLIC]
    else:
        with pytest.raises(EgressDenied):
            await world.let_out(url, purpose)
    assert world.outcomes == {(purpose, "let_out" if is_let_out else "denied"): 1}


async def test_what_the_operator_names_is_let_out_on_any_port(engine: OpaEngine) -> None:
    world = World(engine, names={"mcp.corp.test": [["127.0.0.9"]]})

    place = await world.let_out("http://mcp.corp.test:9000/mcp", "mcp", operator_named=True)

    assert [str(one) for one in place.addresses] == ["127.0.0.9"]


async def test_a_private_network_of_nobodys_list_is_closed_to_the_operators_own_words(
    engine: OpaEngine,
) -> None:
    world = World(engine, names={"mcp.corp.test": [["10.9.9.9"]]})

    with pytest.raises(EgressDenied):
        await world.let_out("https://mcp.corp.test/", "mcp", operator_named=True)


@pytest.mark.parametrize(
    ("url", "is_let_out"),
    [("http://mcp.corp.test/", False), ("https://mcp.corp.test/", True), ("http://mcp.inside.test/", True)],
)
async def test_no_credential_goes_out_in_the_clear(engine: OpaEngine, url: str, is_let_out: bool) -> None:
    names = {"mcp.corp.test": [[PUBLIC]], "mcp.inside.test": [["127.0.0.9"]]}
    world = World(engine, names=names)

    if is_let_out:
        assert (await world.let_out(url, "mcp", operator_named=True)).addresses
    else:
        with pytest.raises(EgressDenied):
            await world.let_out(url, "mcp", operator_named=True)


async def test_a_listed_network_opens_only_hosts_that_are_listed_by_name(engine: OpaEngine) -> None:
    world = World(engine, names={"docs.test": [["127.0.0.1"]], "any.test": [["127.0.0.1"]]})

    await world.let_out("https://docs.test/", "file")
    with pytest.raises(EgressDenied):
        await world.let_out("https://any.test/", "image")
    asked = [one["resource"]["destination"]["private"] for one in world.decisions]
    assert asked == [False, True, False, True]


async def test_each_decision_is_recorded_and_names_no_path(engine: OpaEngine) -> None:
    world = World(engine, names={"docs.test": [[PUBLIC]]})

    await world.let_out("https://docs.test/private/token?key=secret", "file")

    (record,) = world.records.written
    assert record["phase"] == "egress.connect"
    assert "secret" not in str(record)


async def test_what_the_gateway_refuses_itself_is_recorded(engine: OpaEngine) -> None:
    world = World(engine, names={"docs.test": [["169.254.169.254"]]})

    with pytest.raises(EgressDenied):
        await world.let_out("https://docs.test/", "file")

    assert [(one["kind"], one.get("refused")) for one in world.records.written] == [
        ("decisions", None),
        ("egress", "address"),
    ]


async def test_a_name_without_an_address_cannot_be_found(engine: OpaEngine) -> None:
    world = World(engine)

    with pytest.raises(FetchFailed):
        await world.let_out("https://docs.test/", "file")
    assert world.outcomes == {("file", "not_found"): 1}


async def test_a_name_is_looked_up_once_and_connected_to_where_it_was_checked(
    engine: OpaEngine, server: ScriptedUpstream
) -> None:
    """A name server that answers otherwise the second time (DNS rebinding) is not asked a second time."""
    world = World(engine, names={"docs.test": [["127.0.0.1"], ["127.0.0.66"]]}, ports=[server.port])

    async def answer(exchange: Exchange) -> None:
        await exchange.answer(200, b"here")

    server.script = answer
    place = await world.let_out(f"http://docs.test:{server.port}/", "file")
    async with httpx2.AsyncClient(transport=PinnedTransport(place, limit_bytes=100)) as client:
        answers = [(await client.get(str(place.url))).content for _ in range(3)]

    assert (answers, world.names.asked) == ([b"here"] * 3, ["docs.test"])
    assert dict(server.requests[0].headers)["host"] == f"docs.test:{server.port}"


@pytest.mark.parametrize(
    "other",
    ["http://127.0.0.1:{port}/", "http://docs.test:1/", "https://docs.test:{port}/", "http://evil.test/"],
)
async def test_a_transport_leads_nowhere_else(
    engine: OpaEngine, server: ScriptedUpstream, other: str
) -> None:
    world = World(engine, names={"docs.test": [["127.0.0.1"]]}, ports=[server.port])
    place = await world.let_out(f"http://docs.test:{server.port}/", "file")

    async with httpx2.AsyncClient(transport=PinnedTransport(place, limit_bytes=100)) as client:
        with pytest.raises(httpx2.UnsupportedProtocol):
            await client.get(other.format(port=server.port))
    assert server.requests == []


async def test_without_a_policy_nothing_goes_out() -> None:
    from regate_adapters.opa.client import OpaAddress

    async with OpaEngine(OpaAddress("http://127.0.0.1:1"), schemas={}, deadline_s=1) as gone:
        world = World(gone, names={"docs.test": [[PUBLIC]]})
        with pytest.raises(PolicyUnavailable):
            await world.let_out("https://docs.test/", "mcp", operator_named=True)
    assert world.names.asked == []
