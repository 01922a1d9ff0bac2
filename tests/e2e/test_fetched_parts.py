"""Files and images that a client names by address: fetched where the policy permits it, and only there."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.adapters.backend.conftest import Exchange
from tests.adapters.backend.conftest import ScriptedUpstream as Server
from tests.deployments import only_on
from tests.e2e.conftest import ScriptedUpstream, World

from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running

pytestmark = only_on("embedded")

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PNG_URL = "data:image/png;base64," + base64.b64encode(PNG).decode()
HOSTS = {"file": ["127.0.0.1"], "image": ["127.0.0.1"]}
CONTENT: dict[str, tuple[bytes, str]] = {
    "/x.png": (PNG, "image/png"),
    "/picture": (PNG, "application/octet-stream"),
    "/leave.md": (b"28 days", "text/plain; charset=utf-8"),
    "/download?file=1": (b"29 days", "text/markdown"),
    "/page.html": (b"<html><script>fetch('//evil')</script><p>30 days</p></html>", "image/png"),
    "/blob": (b"\x00\x01", ""),
    "/report.pdf": (b"no PDF at all", "application/pdf"),
}

Opened = Callable[..., AbstractAsyncContextManager[World]]


@pytest_asyncio.fixture
async def outside() -> AsyncIterator[Server]:
    server = Server()

    async def answer(exchange: Exchange) -> None:
        body, media_type = CONTENT[exchange.path]
        await exchange.answer(200, body, f"Content-Type: {media_type}")

    server.script = answer
    async with server.serving():
        yield server


@pytest.fixture
def opened(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path, outside: Server
) -> Opened:
    @asynccontextmanager
    async def running(hosts: dict[str, list[str]] | None = None, **egress: Any) -> AsyncIterator[World]:
        data = json.loads((policies / "data.json").read_text())
        data["regate"]["egress_hosts"] = HOSTS if hosts is None else hosts
        (policies / "data.json").write_text(json.dumps(data))
        said = {"allow_private": ["127.0.0.0/8"], "ports": [outside.port]} | egress
        settings = configure(egress=said)
        app, gateway = gateway_app(settings)
        async with Running(app, settings.listen) as server:
            yield World(server.url, settings, gateway, upstream, policies)

    return running


def file(server: Server, path: str, **more: Any) -> dict[str, Any]:
    return {"type": "input_file", "file_url": f"http://127.0.0.1:{server.port}{path}", **more}


def image(server: Server, path: str) -> dict[str, Any]:
    return {"type": "input_image", "image_url": f"http://127.0.0.1:{server.port}{path}"}


def asking(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "small", "input": [{"role": "user", "content": list(parts)}], **more}


def read_by(upstream: ScriptedUpstream) -> list[Any]:
    """What the model read of the last message that has parts."""
    found = [one["content"] for one in upstream.requests[-1]["messages"] if isinstance(one["content"], list)]
    return list(found[-1])


@pytest.mark.parametrize(
    ("path", "more", "text"),
    [
        ("/leave.md", {}, "[File: leave.md]\n28 days"),
        ("/leave.md", {"filename": "mine.txt"}, "[File: mine.txt]\n28 days"),
        ("/download?file=1", {}, "[File: file.md]\n29 days"),
        ("/page.html", {}, "[File: page.html]\n30 days"),
    ],
)
async def test_a_file_at_a_permitted_address_is_read_by_the_model(
    opened: Opened, outside: Server, path: str, more: dict[str, str], text: str
) -> None:
    async with opened() as world, world.http() as http:
        answer = await http.post("/responses", json=asking(file(outside, path, **more)))

    assert answer.status_code == 200, answer.text
    assert read_by(world.upstream) == [{"type": "text", "text": text}]


@pytest.mark.parametrize("path", ["/x.png", "/picture"])
async def test_an_image_at_a_permitted_address_reaches_the_model_as_data(
    opened: Opened, outside: Server, path: str
) -> None:
    async with opened() as world, world.http() as http:
        answer = await http.post("/responses", json=asking(image(outside, path)))
        chat = await http.post(
            "/chat/completions",
            json={
                "model": "small",
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image_url", "image_url": {"url": image(outside, path)["image_url"]}}
                        ],
                    }
                ],
            },
        )

    assert (answer.status_code, chat.status_code) == (200, 200)
    assert [
        one["content"][0]["image_url"]["url"]
        for request in world.upstream.requests
        for one in request["messages"]
    ] == [PNG_URL] * 2


@pytest.mark.parametrize(
    ("hosts", "egress"),
    [
        ({}, {}),
        ({"image": [], "file": ["other.test"]}, {}),
        ({"image": ["*"], "file": ["*"]}, {}),  # not by its name, and private
        (HOSTS, {"allow_private": []}),
        (HOSTS, {"ports": [443]}),
    ],
    ids=["nobody lists it", "others are listed", "all public ones", "its network is closed", "its port is"],
)
async def test_what_is_not_permitted_is_refused_alike_and_not_fetched(
    opened: Opened, outside: Server, hosts: dict[str, list[str]], egress: dict[str, Any]
) -> None:
    async with opened(hosts, **egress) as world, world.http() as http:
        answers = [
            (await http.post("/responses", json=asking(part))).json()["error"]
            for part in (file(outside, "/leave.md"), image(outside, "/x.png"))
        ]

    assert [(one["code"], one["param"]) for one in answers] == [("unsupported_parameter", "input")] * 2
    assert ["are not fetched here" in one["message"] for one in answers] == [True, True]
    assert (outside.requests, world.upstream.requests) == ([], [])


@pytest.mark.parametrize(
    ("kind", "path", "code"),
    [
        (image, "/leave.md", "unsupported_file"),
        (image, "/page.html", "unsupported_file"),
        (file, "/blob", "unsupported_file"),
        (file, "/report.pdf", "invalid_file"),
    ],
)
async def test_what_is_there_must_be_what_it_is_asked_for(
    opened: Opened, outside: Server, kind: Callable[..., dict[str, Any]], path: str, code: str
) -> None:
    async with opened() as world, world.http() as http:
        answer = await http.post("/responses", json=asking(kind(outside, path)))

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, "input")
    assert (len(outside.requests), world.upstream.requests) == (1, [])


async def test_what_is_larger_than_the_operator_permits_is_refused(opened: Opened, outside: Server) -> None:
    async with opened(max_bytes=10) as world, world.http() as http:
        answer = await http.post("/responses", json=asking(image(outside, "/x.png")))

    assert (answer.status_code, answer.json()["error"]["param"]) == (413, "input")


async def test_a_request_names_few_addresses(opened: Opened, outside: Server) -> None:
    async with opened() as world, world.http() as http:
        answer = await http.post("/responses", json=asking(*[file(outside, "/leave.md")] * 21))

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")
    assert len(outside.requests) == 20


async def test_an_address_is_decided_and_fetched_anew_in_each_turn(opened: Opened, outside: Server) -> None:
    async with opened() as world, world.http() as http:
        first = await http.post("/responses", json=asking(file(outside, "/leave.md")))
        kept = await http.get(f"/responses/{first.json()['id']}/input_items")
        again = {"model": "small", "input": "And?", "previous_response_id": first.json()["id"]}
        second = await http.post("/responses", json=again)
        read = read_by(world.upstream)

        async def absent(exchange: Exchange) -> None:
            await exchange.answer(404, b"")

        outside.script = absent
        third = await http.post("/responses", json=again)

    assert kept.json()["data"][0]["content"][0]["file_url"] == file(outside, "/leave.md")["file_url"]
    assert (second.status_code, read) == (200, [{"type": "text", "text": "[File: leave.md]\n28 days"}])
    assert (third.status_code, read_by(world.upstream)) == (
        200,
        [{"type": "text", "text": "[A file that was here is no longer available.]"}],
    )


async def test_each_connection_is_on_record_before_it_is_made(opened: Opened, outside: Server) -> None:
    async with opened() as world, world.http() as http:
        await http.post("/responses", json=asking(image(outside, "/x.png")))
        decisions = [one for record in world.audit(phase="egress.connect") for one in record["decisions"]]
        lines = (await http.get(f"{world.url}/metrics")).text.splitlines()

    assert [(one["about"], one["allowed"]) for one in decisions] == [("127.0.0.1", True)]
    assert [line for line in lines if line.startswith("regate_egress_total{")] == [
        'regate_egress_total{outcome="let_out",purpose="image"} 1.0'
    ]
