"""Code of a model in a real kernel: decided, run in the caller's own container, and decided again."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.deployments import only_on
from tests.e2e.conftest import ScriptedUpstream, World, ended, text, tool_call
from tests.e2e.test_event_shapes import called, events_in, faults
from tests.e2e.test_responses import leave_store, search_tool
from tests.kernels import TOKEN, KernelGateway, kernel_gateway

from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running
from regate_orchestrator.ports import GUARD_STEPS

pytestmark = only_on("embedded")

Opened = Callable[..., AbstractAsyncContextManager[World]]
GRANTED = {
    name: {"type": name, "tenants": {"acme": ["everyone"], "globex": ["everyone"]}, "needs_approval": False}
    for name in ("code_interpreter",)
}
CODE: Any = {"type": "code_interpreter", "container": {"type": "auto"}}
OUTPUTS: Any = ["code_interpreter_call.outputs"]
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SHOW_IMAGE = (
    "import base64\nfrom IPython.display import Image, display\n"
    f"display(Image(base64.b64decode({base64.b64encode(PNG).decode()!r})))"
)


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: Any) -> Iterator[KernelGateway]:
    with kernel_gateway(tmp_path_factory.mktemp("kernels")) as running:
        yield running


@pytest.fixture
def opened(
    configure: Callable[..., Settings],
    upstream: ScriptedUpstream,
    policies: Path,
    jupyter: KernelGateway,
    monkeypatch: pytest.MonkeyPatch,
) -> Opened:
    monkeypatch.setenv("KERNEL_TOKEN", TOKEN)

    @asynccontextmanager
    async def running(
        tools: Mapping[str, Any] = GRANTED,
        documents: Mapping[str, Any] | None = None,
        guards: Mapping[str, Any] | None = None,
        **code: Any,
    ) -> AsyncIterator[World]:
        data = json.loads((policies / "data.json").read_text())
        data["regate"] |= {"tools": tools} | dict(documents or {})
        (policies / "data.json").write_text(json.dumps(data))
        said = {"base_url": jupyter.url, "api_key_env": "KERNEL_TOKEN", "kernel": "python3"} | code
        settings = configure(
            egress={"allow_private": ["127.0.0.0/8"]}, tools={"code_interpreter": said}, guards=guards or {}
        )
        app, gateway = gateway_app(settings)
        async with Running(app, settings.listen) as server:
            world = World(server.url, settings, gateway, upstream, policies)
            yield world
            for client in world.clients:
                await client.close()

    return running


def run(code: str, *, call_id: str = "call_1") -> list[dict[str, Any]]:
    return tool_call("code_interpreter", {"code": code}, call_id=call_id)


def told(upstream: ScriptedUpstream) -> list[str]:
    """What the model was told of its calls in the last request."""
    return [one["content"] for one in upstream.requests[-1]["messages"] if one["role"] == "tool"]


async def asked(world: World, *turns: Any, who: Any = None, **request: Any) -> Any:
    world.upstream.turns = list(turns)
    request = {"model": "small", "input": "Compute.", "tools": [CODE]} | request
    return await (who or world.client()).responses.create(**request)


async def test_code_runs_and_keeps_its_variables_within_a_response(
    opened: Opened, jupyter: KernelGateway
) -> None:
    async with opened() as world:
        answer = await asked(
            world, run("x = 20\nprint('set')"), run("x + 1"), text("It is 21."), include=OUTPUTS
        )
        plain = await world.client().responses.retrieve(answer.id)
        kernels = jupyter.kernels()
        ran = world.audit(kind="tool.ran")
    first, second, _ = answer.output

    assert told(world.upstream) == ["set", "21"]
    assert (first.type, first.status, first.code) == (
        "code_interpreter_call",
        "completed",
        "x = 20\nprint('set')",
    )
    assert [one.logs for one in (*first.outputs, *second.outputs)] == ["set", "21"]
    assert first.container_id == second.container_id
    assert first.container_id.startswith("cntr_")
    assert [one.outputs for one in plain.output[:2]] == [None, None]
    assert [(one["container"], one["outcome"]) for one in ran] == [(first.container_id, "completed")] * 2
    assert (len(kernels), jupyter.kernels()) == (1, [])  # the gateway ends what it began


async def test_stream_tells_of_code_in_the_clients_own_types(opened: Opened) -> None:
    async with opened() as world, world.http() as http:
        world.upstream.turns = [run("1 + 1"), text("2")]
        answer = await http.post(
            "/responses",
            json={"model": "small", "input": "?", "stream": True, "tools": [CODE], "include": OUTPUTS},
        )
    events = events_in(answer.text)
    delta, done = (events[place] for place in (4, 5))

    assert faults(events) == []
    assert [one["type"].removeprefix("response.") for one in events[2:9]] == [
        "output_item.added",
        "code_interpreter_call.in_progress",
        "code_interpreter_call_code.delta",
        "code_interpreter_call_code.done",
        "code_interpreter_call.interpreting",
        "code_interpreter_call.completed",
        "output_item.done",
    ]
    assert (delta["delta"], done["code"]) == ("1 + 1", "1 + 1")
    assert events[8]["item"]["outputs"] == [{"type": "logs", "logs": "2"}]


async def test_files_go_in_decided_and_come_out_as_the_callers(opened: Opened) -> None:
    async with opened() as world:
        client = world.client()
        file = await client.files.create(file=("leave.csv", b"days\n28\n"), purpose="user_data")
        tool = CODE | {"container": {"type": "auto", "file_ids": [file.id]}}
        answer = await asked(
            world,
            run("d = open('leave.csv').read(); open('twice.csv', 'w').write(d * 2)\n" + SHOW_IMAGE),
            text("Done."),
            tools=[tool],
            include=OUTPUTS,
        )
        logs, image = answer.output[0].outputs
        files = {one.filename: one async for one in client.files.list()}
        twice, shown = files["twice.csv"], files["image-1.png"]
        contents = [(await client.files.content(one.id)).content for one in (twice, shown)]
        seen = [one.id async for one in world.client("bob").files.list()]

    assert contents == [b"days\n28\n" * 2, PNG]
    assert logs.logs == (
        f"[The user was given the file image-1.png as {shown.id}.]\n"
        f"[The user was given the file twice.csv as {twice.id}.]"
    )
    assert (image.type, image.url) == ("image", f"/v1/files/{shown.id}/content")
    assert twice.purpose == "assistants_output"
    assert seen == []


async def test_a_file_that_the_caller_may_not_read_does_not_go_in(opened: Opened) -> None:
    async with opened() as world:
        other = await world.client("bob").files.create(file=("b.csv", b"secret"), purpose="user_data")
        answers = []
        for file in (other.id, "file-absent"):
            tool = CODE | {"container": {"type": "auto", "file_ids": [file]}}
            await asked(world, run("1"), text("No."), tools=[tool])
            answers += told(world.upstream)

    assert answers == ["The code did not run: a file of the container is not there or may not be read."] * 2


async def test_what_rests_on_a_file_is_withheld_once_it_is_gone(opened: Opened) -> None:
    async with opened() as world:
        client = world.client()
        file = await client.files.create(file=("leave.csv", b"28 days"), purpose="user_data")
        tool = CODE | {"container": {"type": "auto", "file_ids": [file.id]}}
        first = await asked(
            world, run("d = open('leave.csv').read(); print(d)"), text("28 days."), tools=[tool]
        )
        container = first.output[0].container_id
        again = CODE | {"container": container}
        await asked(world, run("print(d)"), text("28 days."), tools=[again])
        before = told(world.upstream)
        await client.files.delete(file.id)
        await asked(world, run("print(d)"), text("No."), tools=[again])
        after = told(world.upstream)
        await asked(world, text("No."), previous_response_id=first.id)
        history = world.upstream.prompt

    assert before == ["28 days"]
    assert after == ["The code did not run: the container holds what may no longer be used."]
    assert "28 days" not in history


async def test_a_container_holds_what_earlier_turns_had_read(opened: Opened) -> None:
    async with opened() as world:
        client, store, file = await leave_store(world)
        first = await asked(
            world,
            tool_call("file_search", {"query": "leave"}),
            run("found = 'blue-heron'", call_id="call_2"),
            text("Kept."),
            tools=[search_tool(store), CODE],
            who=client,
        )
        container = next(one for one in first.output if one.type == "code_interpreter_call").container_id
        again: Any = [CODE | {"container": container}]
        await asked(world, run("print(found)"), text("Yes."), tools=again, who=client)
        before = told(world.upstream)
        await client.vector_stores.files.delete(file, vector_store_id=store)
        await asked(world, run("print(found)"), text("No."), tools=again, who=client)

    assert before == ["blue-heron"]
    assert told(world.upstream) == ["The code did not run: the container holds what may no longer be used."]


async def test_containers_are_of_one_person(opened: Opened) -> None:
    async with opened() as world:
        first = await asked(world, run("secret = 's3cr3t'"), text("Kept."))
        container = first.output[0].container_id
        answers = []
        for who, named in [
            (world.client("bob"), container),
            (world.client("alice", "globex"), container),
            (world.client(), "cntr_absent"),
            (world.client(), container),
        ]:
            await asked(world, run("print(secret)"), text("?"), tools=[CODE | {"container": named}], who=who)
            answers += told(world.upstream)

    absent = "The code did not run: there is no such container, or no room for a new one."
    assert answers == [absent, absent, absent, "s3cr3t"]


async def test_no_more_containers_are_made_than_may_be(opened: Opened) -> None:
    async with opened(max_containers=2, max_containers_each=1) as world:
        answers = []
        for who in ("alice", "alice", "bob", "carol"):
            await asked(world, run("print('ran')"), text("?"), who=world.client(who))
            answers.append(told(world.upstream)[0][:8])

    assert answers == ["ran", "The code", "ran", "The code"]


async def test_code_that_does_not_end_is_ended_with_its_container(
    opened: Opened, jupyter: KernelGateway
) -> None:
    async with opened(deadline_s=2) as world:
        answer = await asked(world, run("while True: pass"), text("Too long."))
        left = jupyter.kernels()

    assert told(world.upstream) == ["The code did not end in time. Its container was deleted."]
    assert (answer.output[0].status, left) == ("failed", [])


async def test_calls_that_wait_for_a_container_that_is_ended_do_not_run(
    opened: Opened, jupyter: KernelGateway
) -> None:
    both = [
        called(0, "code_interpreter", '{"code": "while True: pass"}'),
        called(1, "code_interpreter", '{"code": "print(1)"}'),
        ended("tool_calls"),
    ]
    async with opened(deadline_s=2) as world:
        answer = await asked(world, both, text("Too long."))
        left = jupyter.kernels()

    assert told(world.upstream) == [
        "The code did not end in time. Its container was deleted.",
        "The code did not run: there is no such container, or no room for a new one.",
    ]
    assert ([one.status for one in answer.output[:2]], left) == (["failed", "failed"], [])


async def test_a_client_that_leaves_ends_its_code(opened: Opened, jupyter: KernelGateway) -> None:
    async with opened() as world, world.http() as http:
        world.upstream.turns = [run("while True: pass")]
        request = {"model": "small", "input": "?", "stream": True, "tools": [CODE]}
        async with http.stream("POST", "/responses", json=request) as answer:
            async for line in answer.aiter_lines():
                if line == "event: response.code_interpreter_call.interpreting":
                    break
            async with asyncio.timeout(60):
                while not await asyncio.to_thread(jupyter.kernels):
                    await asyncio.sleep(0.05)
        async with asyncio.timeout(60):
            while await asyncio.to_thread(jupyter.kernels):
                await asyncio.sleep(0.05)

        assert world.gateway.services is not None  # the gateway itself goes on


async def test_guards_look_at_what_code_writes(opened: Opened) -> None:
    wanted = {"labels": {"secret": "redact"}, "scores": {}}
    steps = {step: {"labels": {}, "scores": {}} for step in GUARD_STEPS} | {"tool_result": wanted}
    guards = {"providers": [{"name": "here", "kind": "detector", "steps": ["tool_result"]}]}
    async with opened(documents={"guard_thresholds": steps}, guards=guards) as world:
        answer = await asked(
            world, run("print('sk-' + 'proj-' + 'aB3' * 16)"), text("Done."), include=OUTPUTS
        )

    assert told(world.upstream) == ["[redacted: secret]"]
    assert [one.logs for one in answer.output[0].outputs] == ["[redacted: secret]"]


async def test_without_a_grant_nothing_runs(opened: Opened, jupyter: KernelGateway) -> None:
    async with opened({}) as world:
        answer = await asked(world, run("1"), text("I may not."))
        kernels = jupyter.kernels()

    assert "tools" not in world.upstream.requests[0]
    assert ([item.type for item in answer.output], kernels) == (["message"], [])


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"type": "code_interpreter"}, "tools[0].container"),
        (CODE | {"container": {"type": "auto", "memory_limit": "64g"}}, "tools[0].container.memory_limit"),
        (CODE | {"allowed_callers": ["direct"]}, "tools[0].allowed_callers"),
    ],
)
async def test_what_cannot_be_honoured_is_refused(opened: Opened, tool: Any, param: str) -> None:
    async with opened() as world, world.http() as http:
        answer = await http.post("/responses", json={"model": "small", "input": "Hi", "tools": [tool]})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
