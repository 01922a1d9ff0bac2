"""The engine against real OPA, and against a server that answers as OPA never should: everything but
an exact answer is unavailability.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from tests.adapters.opa.policies import CHUNK, short, write_policies

from regate_adapters.opa.client import OpaAddress
from regate_adapters.opa.engine import OpaEngine
from regate_adapters.opa.residual import NotUnderstood
from regate_adapters.testing.opa import RunningOpa, running_opa
from regate_orchestrator.errors import PolicyUnavailable
from regate_orchestrator.filters.expression import Everything, Matching, Nothing
from regate_orchestrator.ports import Answer
from regate_orchestrator.values import JsonObject

PROVENANCE = '"provenance": {"version": "1.22.2", "bundles": {"b": {"revision": "r1"}}}'
PRINCIPAL: JsonObject = {"tenant": "acme", "teams": ["hr", "eng"]}
CHUNK_OF_ACME: JsonObject = {"tenant": "acme", "visibility": "attributes", "teams": ["hr"], "labels": []}

PLANS = """package regate.plans

default closed := false

always if input.action == "read"

never if input.action == "write"

mixed if {
	input.action == "read"
	helped
}

helped if input.row.tenant == "acme"

failing if to_number(input.text) == 1

conflicting := 1 if input.action

conflicting := 2 if input.action

lowered if lower(input.row.tenant) == "acme"
"""


@asynccontextmanager
async def server(path: Path, replies: Sequence[bytes | None]) -> AsyncIterator[list[bytes]]:
    """Listen on the socket and answer the n-th request with the n-th reply; None closes the connection
    instead, b"" never answers.
    """
    requests: list[bytes] = []
    left = list(replies)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length")
                )
                requests.append(head + await reader.readexactly(length))
                reply = left.pop(0)
                if reply is None:
                    return
                writer.write(reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_unix_server(serve, path)
    async with listener:
        yield requests


def reply(body: str, *, status: str = "200 OK", more: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{more}Content-Length: "
        f"{len(body.encode())}\r\n\r\n{body}"
    ).encode()


def engine_at(path: Path, *, deadline_s: float = 10) -> OpaEngine:
    return OpaEngine(OpaAddress("http://opa", socket=path), schemas={}, deadline_s=deadline_s)


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> RunningOpa:
    return running_opa(
        write_policies(tmp_path_factory.mktemp("policies"), {"chunk.rego": CHUNK, "plans.rego": PLANS}),
        deadline_s=10,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(managed: RunningOpa) -> AsyncIterator[OpaEngine]:
    async with managed as engine:
        yield engine


async def test_a_policy_that_lacks_a_rule_has_no_revision_and_the_problem_is_told(
    running: OpaEngine, managed: RunningOpa
) -> None:
    asked = ["regate/chunk/allow", "regate/chunk/deny_reasons", "regate/absent/allow"]
    async with OpaEngine(managed.process.address, schemas={}, deadline_s=10, rules=asked) as engine:
        with pytest.raises(PolicyUnavailable):
            await engine.revision()
        problem = engine.problem

    assert problem == "the policy lacks regate/absent/allow, for which OPA answers as for a denial"


async def test_a_rule_of_which_there_is_a_default_only_is_there(
    running: OpaEngine, managed: RunningOpa
) -> None:
    async with OpaEngine(
        managed.process.address, schemas={}, deadline_s=10, rules=["regate/plans/closed"]
    ) as engine:
        assert await engine.revision() == managed.process.revision


async def test_what_policies_are_not_checked_for_is_not_asked(
    running: OpaEngine, managed: RunningOpa
) -> None:
    async with OpaEngine(
        managed.process.address, schemas={}, deadline_s=10, rules=["regate/chunk/allow"]
    ) as engine:
        assert (
            await engine.ask("regate/chunk/allow", {"chunk": CHUNK_OF_ACME, "principal": PRINCIPAL})
        ).value is True
        for asking in (
            engine.ask("regate/plans/always", {}),
            engine.plan("regate/plans/always", {}, unknown="row"),
        ):
            with pytest.raises(ValueError, match="none of the rules"):
                await asking


async def test_answer_has_value_and_revision(running: OpaEngine, managed: RunningOpa) -> None:
    answer = await running.ask("regate/chunk/allow", {"principal": PRINCIPAL, "chunk": CHUNK_OF_ACME})

    assert answer == Answer(defined=True, value=True, revision=managed.process.revision)


async def test_undefined_rule_is_an_answer_without_value(running: OpaEngine, managed: RunningOpa) -> None:
    answer = await running.ask("regate/plans/never", {"action": "read"})

    assert answer == Answer(defined=False, value=None, revision=managed.process.revision)


@pytest.mark.parametrize("rule", ["failing", "conflicting"])
async def test_rule_that_fails_is_unavailable_and_not_undefined(running: OpaEngine, rule: str) -> None:
    with pytest.raises(PolicyUnavailable, match="gave no decision") as raised:
        await running.ask(f"regate/plans/{rule}", {"action": "read", "text": "x"})

    assert raised.value.detail.startswith("OPA answered 500")


@pytest.mark.parametrize(
    "rule",
    ["regate", "regate/", "regate/../system", "regate/plans/always?x=1", "regate.plans", "/regate/a", ""],
)
async def test_what_is_no_rule_is_never_asked(running: OpaEngine, rule: str) -> None:
    with pytest.raises(ValueError, match="no path of a rule"):
        await running.ask(rule, {})
    with pytest.raises(ValueError, match="no path of a rule"):
        await running.plan(rule, {}, unknown="row")


@pytest.mark.parametrize("text", ["\ud800", 2**70])
async def test_input_that_is_no_json_is_unavailability(running: OpaEngine, text: str | int) -> None:
    with pytest.raises(PolicyUnavailable):
        await running.ask("regate/plans/always", {"action": text})


async def test_plan_for_everything_nothing_and_some(running: OpaEngine, managed: RunningOpa) -> None:
    document: JsonObject = {"action": "read"}
    always, never, mixed, absent = [
        await running.plan(f"regate/plans/{rule}", document, unknown="row")
        for rule in ("always", "never", "mixed", "absent")
    ]

    assert (always.plan, never.plan, absent.plan) == (Everything(), Nothing(), Nothing())
    assert isinstance(mixed.plan, Matching)
    assert short(mixed.plan.expression) == 'tenant eq "acme"'
    assert {planned.revision for planned in (always, never, mixed, absent)} == {managed.process.revision}


async def test_teams_without_number_do_not_multiply_the_filter(running: OpaEngine) -> None:
    principal: JsonObject = {"tenant": "acme", "teams": [f"team-{number}" for number in range(2_000)]}
    planned = await running.plan("regate/chunk/allow", {"principal": principal}, unknown="chunk")

    assert isinstance(planned.plan, Matching)
    assert short(planned.plan.expression).count("overlaps") == 2


async def test_refusal_names_rule_file_line_and_reason(running: OpaEngine) -> None:
    with pytest.raises(NotUnderstood) as raised:
        await running.plan("regate/plans/lowered", {}, unknown="row")

    line = PLANS.splitlines().index('lowered if lower(input.row.tenant) == "acme"') + 1
    assert (
        raised.value.detail
        == f"data.regate.plans.lowered: data.regate.plans.lowered (plans.rego:{line}): builtin lower"
    )


async def test_many_tasks_share_one_engine(running: OpaEngine) -> None:
    async with asyncio.TaskGroup() as tasks:
        asked = [
            tasks.create_task(
                running.ask(
                    "regate/chunk/allow",
                    {"principal": PRINCIPAL, "chunk": {**CHUNK_OF_ACME, "tenant": tenant}},
                )
            )
            for tenant in ["acme", "globex"] * 100
        ]

    assert [task.result().value for task in asked] == [True, False] * 100


async def test_opa_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    async with engine_at(tmp_path / "none") as engine:
        with pytest.raises(PolicyUnavailable):
            await engine.ask("regate/chunk/allow", {})


async def test_closed_engine_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(PolicyUnavailable):
        await engine_at(tmp_path / "none").ask("regate/chunk/allow", {})


async def test_opa_without_any_policy_is_unavailable_though_it_answers(tmp_path: Path, opa: Path) -> None:
    address = OpaAddress("http://opa", socket=tmp_path / "opa.sock")
    process = await asyncio.create_subprocess_exec(
        *(
            opa,
            "run",
            "--server",
            "--addr",
            f"unix://{address.socket}",
            "--skip-version-check",
            "--log-level",
            "error",
        ),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with OpaEngine(address, schemas={}, deadline_s=10) as engine, asyncio.timeout(60):
            while True:
                with pytest.raises(PolicyUnavailable) as raised:
                    await engine.revision()
                if "names no policy bundle" in raised.value.detail:
                    break
            with pytest.raises(PolicyUnavailable, match="gave no decision"):
                await engine.ask("regate/chunk/allow", {})
            with pytest.raises(PolicyUnavailable, match="gave no decision"):
                await engine.plan("regate/chunk/allow", {}, unknown="chunk")
    finally:
        process.kill()
        await process.wait()


async def test_opa_that_hangs_costs_the_deadline_and_no_more(tmp_path: Path) -> None:
    async with server(tmp_path / "s", [b""]), engine_at(tmp_path / "s", deadline_s=0.2) as engine:
        with pytest.raises(PolicyUnavailable, match="gave no decision") as raised:
            await engine.ask("regate/chunk/allow", {})

    assert "within 0.2 s" in raised.value.detail


async def test_opa_that_drips_is_cut_off_at_the_deadline(tmp_path: Path) -> None:
    partial = reply(f'{{"result": true, {PROVENANCE}}}')[:-5]
    async with server(tmp_path / "s", [partial]), engine_at(tmp_path / "s", deadline_s=0.2) as engine:
        with pytest.raises(PolicyUnavailable) as raised:
            await engine.ask("regate/chunk/allow", {})

    assert "did not answer" in raised.value.detail


@pytest.mark.parametrize(
    "answer",
    [
        reply('{"result": true}', status="500 Internal Server Error"),
        reply(f'{{"result": true, {PROVENANCE}}}', status="201 Created"),
        reply(
            f'{{"result": true, {PROVENANCE}}}',
            status="302 Found",
            more="Location: http://opa/v1/data/regate/chunk/allow\r\n",
        ),
        reply("<html>"),
        reply(""),
        reply("true"),
        reply("[true]"),
        reply('{"result": true}'),
        reply('{"result": true, "provenance": {}}'),
        reply('{"result": true, "provenance": {"bundles": {}}}'),
        reply('{"result": true, "provenance": {"bundles": {"b": {"revision": ""}}}}'),
        reply(
            '{"result": true, "provenance": {"bundles": {"a": {"revision": "r1"}, "b": {"revision": "r2"}}}}'
        ),
        reply('{"result": true, "provenance": {"bundles": {"b": {"revision": 1}}}}'),
        reply(f'{{"result": true, "surprise": 1, {PROVENANCE}}}'),
        reply(f'{{"result": true, {PROVENANCE}}}')[:-1] + b"\xff",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 500\r\n\r\nfalse",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ],
)
async def test_answer_that_is_not_exact_is_no_answer(tmp_path: Path, answer: bytes) -> None:
    async with server(tmp_path / "s", [answer]) as requests, engine_at(tmp_path / "s") as engine:
        with pytest.raises(PolicyUnavailable):
            await engine.ask("regate/chunk/allow", {})

    assert len(requests) == 1


async def test_empty_answer_is_undefined(tmp_path: Path) -> None:
    async with server(tmp_path / "s", [reply("{}")]), engine_at(tmp_path / "s") as engine:
        answer = await engine.ask("regate/chunk/allow", {})

    assert answer == Answer(defined=False, value=None, revision="")


async def test_answer_larger_than_the_cap_is_not_read_to_the_end(tmp_path: Path) -> None:
    huge = reply('{"result": "' + "x" * (17 * 1024 * 1024) + '"}')
    async with server(tmp_path / "s", [huge]), engine_at(tmp_path / "s", deadline_s=10) as engine:
        with pytest.raises(PolicyUnavailable) as raised:
            await engine.ask("regate/chunk/allow", {})

    assert "larger than" in raised.value.detail


async def test_request_that_met_a_closed_pooled_connection_is_sent_on_another(tmp_path: Path) -> None:
    good = reply(f'{{"result": true, {PROVENANCE}}}')
    async with server(tmp_path / "s", [good, None, good]) as requests, engine_at(tmp_path / "s") as engine:
        await engine.ask("regate/chunk/allow", {"n": 1})
        answer = await engine.ask("regate/chunk/allow", {"n": 2})

    assert answer.value is True
    assert [request[request.index(b"\r\n\r\n") + 4 :] for request in requests] == [
        b'{"input":{"n":1}}',
        b'{"input":{"n":2}}',
        b'{"input":{"n":2}}',
    ]


async def test_request_dropped_on_a_fresh_connection_is_not_sent_again(tmp_path: Path) -> None:
    async with server(tmp_path / "s", [None]) as requests, engine_at(tmp_path / "s") as engine:
        with pytest.raises(PolicyUnavailable):
            await engine.ask("regate/chunk/allow", {})

    assert len(requests) == 1


META = f'{{"result": {{"revision": "r1", "helpers": {{}}, "places": {{}}}}, {PROVENANCE}}}'
EMPTY_QUERY = '{"terms": [{"type": "ref", "value": [{"type": "var", "value": "eq"}]}, '
CARRIED = EMPTY_QUERY + '{"type": "var", "value": "regate_revision"}, {"type": "string", "value": "r1"}]}'


async def test_compiled_query_that_carries_the_revision_alone_is_everything(tmp_path: Path) -> None:
    answers = [reply(META), reply(f'{{"result": {{"queries": [[{CARRIED}]]}}}}')]
    async with server(tmp_path / "s", answers), engine_at(tmp_path / "s") as engine:
        planned = await engine.plan("regate/chunk/allow", {}, unknown="chunk")

    assert planned.plan == Everything()


@pytest.mark.parametrize(
    "compiled",
    [
        reply('{"result": {"queries": [[]]}}'),
        reply(f'{{"result": {{"queries": [[{CARRIED}], []]}}}}'),
        reply(f'{{"result": {{"queries": [[{CARRIED}, {CARRIED}]]}}}}'),
        reply("{}"),
        reply('{"result": {}, "surprise": 1}'),
        reply('{"result": {}}', status="400 Bad Request"),
    ],
)
async def test_compilation_that_is_not_exact_is_no_plan(tmp_path: Path, compiled: bytes) -> None:
    async with server(tmp_path / "s", [reply(META), compiled]), engine_at(tmp_path / "s") as engine:
        with pytest.raises(PolicyUnavailable):
            await engine.plan("regate/chunk/allow", {}, unknown="chunk")


@pytest.mark.parametrize(
    "result",
    [
        '{"queries": [[{"terms": 1}]]}',
        '{"queries": [[{}]]}',
        '{"queries": 1}',
        '{"queries": [], "masks": {}}',
        "[]",
        "null",
        f'{{"queries": [[{CARRIED}, {{"terms": {{"type": "templatestring", "parts": []}}}}]]}}',
        (
            f'{{"queries": [[{CARRIED}, {{"terms": {{"type": "ref", "value": [{{"type": "var", "value": '
            '"input"}}]}}}}]]}}'
        ),
    ],
)
async def test_residual_that_is_not_understood_is_refused(tmp_path: Path, result: str) -> None:
    async with (
        server(tmp_path / "s", [reply(META), reply(f'{{"result": {result}}}')]),
        engine_at(tmp_path / "s") as engine,
    ):
        with pytest.raises(NotUnderstood):
            await engine.plan("regate/chunk/allow", {}, unknown="chunk")


async def test_policy_that_changes_while_a_rule_is_compiled_is_compiled_again(tmp_path: Path) -> None:
    newer_meta, newer = (
        text.replace('"r1"', '"r2"') for text in (META, f'{{"result": {{"queries": [[{CARRIED}]]}}}}')
    )
    answers = [reply(META), reply(newer), reply(newer_meta), reply(newer)]
    async with server(tmp_path / "s", answers), engine_at(tmp_path / "s") as engine:
        planned = await engine.plan("regate/chunk/allow", {}, unknown="chunk")

    assert planned.revision == "r2"


async def test_bundle_that_was_not_built_by_regate_is_not_active_policy(tmp_path: Path) -> None:
    foreign = reply(META.replace('"revision": "r1", "helpers"', '"revision": "r0", "helpers"'))
    async with (
        server(tmp_path / "s", [reply(f"{{{PROVENANCE}}}"), foreign]),
        engine_at(tmp_path / "s") as engine,
    ):
        for _ in range(2):
            with pytest.raises(PolicyUnavailable):
                await engine.revision()
