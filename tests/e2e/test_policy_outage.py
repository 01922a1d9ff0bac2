"""Every way in which OPA can fail to answer, at every decision: a refusal, nothing leaked, nothing written,
nothing sent on, and it ends by itself.

One gateway uses a real OPA through a proxy that breaks the answers of one decision only, so that the walk
reaches it. The answers of an OPA without policy, of a rule that is missing and of rules that conflict are
OPA's own.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import pytest_asyncio
from aiohttp import web
from tests.e2e.conftest import OPA_MS, ScriptedUpstream, World, opa_client, text, tool_call

from regate_adapters.opa.client import OpaClient, Reply
from regate_adapters.opa.install import require_opa
from regate_adapters.testing.opa import running_opa
from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running
from regate_gateway.workbench.directory import shipped_policies
from regate_orchestrator.values import JsonObject

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY = "blue-heron"
DOCUMENT = f"# Leave\n\nEmployees have 28 days of annual leave. The canary is {CANARY}.\n"
NEVER_SECONDS = 0.4
"""How long the gateway waits for an answer that never comes. Every other answer has as long as it
needs, on a machine that is slow too.
"""
CONFLICT = """package regate.broken

conflict := 1 if input.action

conflict := 2 if input.action
"""

Fault = Callable[["BreakableOpa", web.Request, bytes], Awaitable[web.StreamResponse]]
Concerns = Callable[[str, dict[str, Any]], bool]


def everything(path: str, document: dict[str, Any]) -> bool:
    return True


@dataclass
class BreakableOpa:
    """A proxy before a real OPA. Questions that `concerns` picks, by their path and document, are
    answered by `fault` instead.
    """

    session: aiohttp.ClientSession
    token: str
    without_policy: aiohttp.ClientSession
    fault: Fault | None = None
    concerns: Concerns = everything
    broken: int = 0

    @contextmanager
    def breaking(self, fault: Fault, concerns: Concerns) -> Iterator[None]:
        """Break the answers for as long as this is entered."""
        self.fault, self.concerns = fault, concerns
        try:
            yield
        finally:
            self.fault = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET":  # the gateway reads the policies beside all that it asks
            return await self.forward(self.session, request.path_qs, None)
        body = await request.read()
        if self.fault is not None and self.concerns(request.path, json.loads(body)):
            self.broken += 1
            return await self.fault(self, request, body)
        return await self.forward(self.session, request.path_qs, body)

    async def forward(self, session: aiohttp.ClientSession, path: str, body: bytes | None) -> web.Response:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        async with session.request(
            "GET" if body is None else "POST", f"http://opa{path}", data=body, headers=headers
        ) as answer:
            return web.Response(
                status=answer.status, body=await answer.read(), content_type="application/json"
            )


# ---------------------------------------------------------------- faults


async def dead(opa: BreakableOpa, request: web.Request, body: bytes) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def hanging(opa: BreakableOpa, request: web.Request, body: bytes) -> web.StreamResponse:
    return await asyncio.get_running_loop().create_future()  # until the gateway gives up


async def slow(opa: BreakableOpa, request: web.Request, body: bytes) -> web.StreamResponse:
    """Begin the true answer in time, and never end it."""
    whole = await opa.forward(opa.session, request.path_qs, body)
    assert isinstance(whole.body, bytes)
    answer = web.StreamResponse(
        headers={"Content-Type": "application/json", "Content-Length": str(len(whole.body))}
    )
    await answer.prepare(request)
    await answer.write(whole.body[:-1])
    return await asyncio.get_running_loop().create_future()


async def failing(opa: BreakableOpa, request: web.Request, body: bytes) -> web.StreamResponse:
    return web.json_response({"code": "internal_error", "message": "scripted"}, status=500)


async def wrong_status(opa: BreakableOpa, request: web.Request, body: bytes) -> web.StreamResponse:
    """The true answer, with a status that says it is none."""
    whole = await opa.forward(opa.session, request.path_qs, body)
    return web.Response(status=203, body=whole.body, content_type="application/json")


async def garbage(opa: BreakableOpa, request: web.Request, body: bytes) -> web.StreamResponse:
    return web.Response(text="<html>true</html>")


async def cut(opa: BreakableOpa, request: web.Request, body: bytes) -> web.StreamResponse:
    whole = await opa.forward(opa.session, request.path_qs, body)
    assert isinstance(whole.body, bytes)
    return web.Response(body=whole.body[:-2], content_type="application/json")


async def conflicting(opa: BreakableOpa, request: web.Request, body: bytes) -> web.StreamResponse:
    return await elsewhere(opa, request, body, "broken/conflict")


async def without_policy(opa: BreakableOpa, request: web.Request, body: bytes) -> web.StreamResponse:
    return await opa.forward(opa.without_policy, request.path_qs, body)


async def undefined(opa: BreakableOpa, request: web.Request, body: bytes) -> web.StreamResponse:
    return web.json_response({})


async def missing(opa: BreakableOpa, request: web.Request, body: bytes) -> web.StreamResponse:
    return await elsewhere(opa, request, body, "absent/allow")


async def elsewhere(opa: BreakableOpa, request: web.Request, body: bytes, rule: str) -> web.Response:
    """Ask OPA for another rule instead."""
    if request.path == "/v1/compile":
        document = json.loads(body)
        document["query"] = (
            f"regate_revision = data.regate.meta.revision; data.regate.{rule.replace('/', '.')} == true"
        )
        return await opa.forward(opa.session, "/v1/compile", json.dumps(document).encode())
    return await opa.forward(opa.session, f"/v1/data/regate/{rule}?{request.query_string}", body)


def result(value: Any) -> Fault:
    """Answer with another value, and everything else as it should be."""

    async def other(opa: BreakableOpa, request: web.Request, body: bytes) -> web.StreamResponse:
        whole = await opa.forward(opa.session, request.path_qs, body)
        assert isinstance(whole.body, bytes)
        return web.json_response(json.loads(whole.body) | {"result": value})

    other.__name__ = f"result_{json.dumps(value)[:60]}"
    return other


NO_ANSWER: tuple[Fault, ...] = (dead, hanging, slow, failing, wrong_status, garbage, cut, conflicting)
NOT_YES: tuple[Fault, ...] = (without_policy, undefined, missing)

NEVER_TRUE = (False, 1, "true", [True], {"allow": True})
NOBODY = (
    True,
    "alice",
    {"id": "alice"},
    {"id": "alice", "tenant": ["acme"]},
    {"id": "a", "tenant": "acme", "teams": "hr"},
)
NO_STAMP = (True, [], {}, {"tenant": "acme"})
NO_PLAN = (None, True, [[]], {"queries": True}, {"queries": [[]]}, {"queries": [], "support": True}, {})
PLENTY = dict.fromkeys(
    ("rpm", "tpm", "max_turns", "max_tool_calls", "max_chunks", "max_output_tokens"), 1_000_000
)
NO_LIMITS = (
    True,
    [],
    {},
    {"rpm": 1},
    PLENTY | {"rpm": "1"},
    PLENTY | {"tpm": 0.5},
    PLENTY | {"tpm": -1},
    PLENTY | {"more": 1},
)
EMPTY: dict[str, Any] = {"stores": [], "chunks": [], "items": [], "tool_results": [], "models": []}
NO_BATCH = (True, {}, EMPTY, *(EMPTY | {name: True} for name in ("stores", "chunks", "items")))
NO_DOCUMENTS = (
    True,
    {},
    {"readable": [], "stamps": {}},
    {"readable": [0], "stamps": {}},
    {"readable": [0], "stamps": True},
    *({"readable": readable, "stamps": {}} for readable in (True, {"0": True}, ["0"], [True], [1], [-1])),
    *({"readable": [0], "stamps": {place: stamp}} for place in ("0", "1", "00") for stamp in NO_STAMP),
)
NO_CHUNKS = (
    *NO_BATCH,
    *(EMPTY | {"chunks": wrong} for wrong in ({"0": True}, ["0"], [True], [0, 99], [-1], [0.5], None)),
)


# ---------------------------------------------------------------- what is asked for


@dataclass
class Scene:
    """A gateway with a document, a store that holds it, and a response that rests on it."""

    world: World
    opa: BreakableOpa
    alice: httpx.AsyncClient
    revision: str
    store: str = ""
    file: str = ""
    response: str = ""
    spare: str = ""
    numbers: Iterator[int] = field(default_factory=count)

    async def prepare(self) -> None:
        self.store = (await self.alice.post("/vector_stores", json={"name": "acme"})).json()["id"]
        self.file, self.spare = [await self.upload(content) for content in (DOCUMENT, "Nothing of note.")]
        assert (await self.attach(self.file)).status_code == 200
        while (attached := (await self.alice.get(f"/vector_stores/{self.store}/files/{self.file}")).json())[
            "status"
        ] == "in_progress":
            await asyncio.sleep(0.05)  # the API is polled, as clients do
        assert attached["status"] == "completed"
        self.response = (await self.respond()).json()["id"]
        assert CANARY in self.world.upstream.prompt

    async def upload(self, content: str) -> str:
        answer = await self.alice.post(
            "/files", files={"file": ("leave.md", content.encode())}, data={"purpose": "assistants"}
        )
        return str(answer.json()["id"])

    async def attach(self, file: str) -> httpx.Response:
        return await self.alice.post(f"/vector_stores/{self.store}/files", json={"file_id": file})

    async def respond(self, **more: Any) -> httpx.Response:
        """Have the model search, and answer."""
        self.world.upstream.turns = [
            tool_call("file_search", {"query": "annual leave"}),
            text("They have 28 days."),
        ]
        tools = [{"type": "file_search", "vector_store_ids": [self.store]}]
        return await self.alice.post(
            "/responses", json={"model": "small", "input": "How many days?", "tools": tools} | more
        )

    async def written(self) -> dict[str, Any]:
        """All that the caller has, and what lies on the disk."""
        listings = {
            path: (await self.alice.get(path)).json()["data"]
            for path in ("/vector_stores", "/files", f"/vector_stores/{self.store}/files")
        }
        responses = (await self.alice.get("/responses", params={"limit": 100})).json()["data"]
        blobs = sorted(path.name for path in self.world.settings.files.path.rglob("*") if path.is_file())
        return {
            path: [(one["id"], one.get("attributes")) for one in data] for path, data in listings.items()
        } | {
            "responses": [one["id"] for one in responses],
            "blobs": blobs,
        }


@dataclass(frozen=True)
class Point:
    """One decision: which question it is, what leads to it, the statuses that deny, and values that
    are no permission.
    """

    name: str
    path: str
    act: Callable[[Scene], Awaitable[httpx.Response]]
    denied: tuple[int, ...]
    values: tuple[Any, ...]
    holding: str = ""
    """The part of the input that must not be empty; tells one batch from another."""
    secret: Callable[[Scene], str] = lambda scene: CANARY
    """What a refusal must not show."""
    again: Callable[[Scene], Awaitable[httpx.Response]] | None = None
    """What proves that it works again, where doing it once more would change the scene."""

    def concerns(self, path: str, document: dict[str, Any]) -> bool:
        return path == self.path and (not self.holding or bool(document["input"].get(self.holding)))


async def list_models(scene: Scene) -> httpx.Response:
    return await scene.alice.get("/models")


async def chat(scene: Scene) -> httpx.Response:
    return await scene.alice.post(
        "/chat/completions", json={"model": "small", "messages": [{"role": "user", "content": "Hi"}]}
    )


async def delete_store(scene: Scene) -> httpx.Response:
    return await scene.alice.delete(f"/vector_stores/{scene.store}")


async def read_store(scene: Scene) -> httpx.Response:
    return await scene.alice.get(f"/vector_stores/{scene.store}")


async def list_stores(scene: Scene) -> httpx.Response:
    return await scene.alice.get("/vector_stores")


async def search(scene: Scene) -> httpx.Response:
    return await scene.alice.post(f"/vector_stores/{scene.store}/search", json={"query": "annual leave"})


async def read_content(scene: Scene) -> httpx.Response:
    return await scene.alice.get(f"/vector_stores/{scene.store}/files/{scene.file}/content")


async def download(scene: Scene) -> httpx.Response:
    return await scene.alice.get(f"/files/{scene.file}/content")


async def respond(scene: Scene) -> httpx.Response:
    return await scene.respond()


async def respond_in_background(scene: Scene) -> httpx.Response:
    answer = await scene.respond(background=True)
    while answer.status_code == 200 and answer.json()["status"] in ("queued", "in_progress"):
        await asyncio.sleep(0.02)  # the API is polled, as clients do
        answer = await scene.alice.get(f"/responses/{answer.json()['id']}")
    return answer


async def embed(scene: Scene) -> httpx.Response:
    return await scene.alice.post("/embeddings", json={"model": "small", "input": "Hi"})


async def go_on(scene: Scene) -> httpx.Response:
    scene.world.upstream.turns = [text("As I said.")]
    return await scene.alice.post(
        "/responses", json={"model": "small", "input": "Again?", "previous_response_id": scene.response}
    )


async def read_response(scene: Scene) -> httpx.Response:
    return await scene.alice.get(
        f"/responses/{scene.response}", params={"include[]": "file_search_call.results"}
    )


async def attach(scene: Scene) -> httpx.Response:
    return await scene.attach(scene.spare)


async def attach_another(scene: Scene) -> httpx.Response:
    return await scene.attach(await scene.upload("Another."))


async def amend(scene: Scene) -> httpx.Response:
    attributes = {"turn": next(scene.numbers)}
    return await scene.alice.post(
        f"/vector_stores/{scene.store}/files/{scene.file}", json={"attributes": attributes}
    )


async def upload(scene: Scene) -> httpx.Response:
    return await scene.alice.post("/files", files={"file": ("x.md", b"text")}, data={"purpose": "assistants"})


BATCH = "/v1/data/regate/lib/batch/admitted"
POINTS = (
    Point("identity", "/v1/data/regate/authn/principal", search, (401,), NOBODY),
    Point("route", "/v1/data/regate/route/allow", chat, (404,), NEVER_TRUE),
    Point("route of a response", "/v1/data/regate/route/allow", respond, (404,), NEVER_TRUE),
    Point(
        "models",
        BATCH,
        list_models,
        (200,),
        (True, EMPTY | {"models": True}, EMPTY | {"models": ["other"]}),
        "models",
        lambda scene: "small",
    ),
    Point("store", "/v1/data/regate/store/allow", delete_store, (403, 404), NEVER_TRUE, again=read_store),
    Point("store to search", BATCH, search, (404,), NO_BATCH, "stores"),
    Point("filter", "/v1/compile", search, (200,), NO_PLAN),
    Point("listing", "/v1/compile", list_stores, (200,), NO_PLAN, secret=lambda scene: scene.store),
    Point("post-check", BATCH, search, (200,), NO_CHUNKS, "chunks"),
    Point("content", BATCH, read_content, (404,), NO_BATCH, "chunks"),
    Point("quota", "/v1/data/regate/quota/limits", chat, (403,), NO_LIMITS),
    Point("quota of a response", "/v1/data/regate/quota/limits", respond, (403,), NO_LIMITS),
    Point(
        "quota of a response in the background",
        "/v1/data/regate/quota/limits",
        respond_in_background,
        (403,),
        (True,),
    ),
    Point("quota of an embedding", "/v1/data/regate/quota/limits", embed, (403,), (True,)),
    Point("file", "/v1/data/regate/file/allow", download, (404,), NEVER_TRUE),
    Point("tool", "/v1/data/regate/tool/allow", respond, (200,), NEVER_TRUE),
    Point("tool result", "/v1/data/regate/tool/admit_result", respond, (200,), NEVER_TRUE),
    Point("history", BATCH, go_on, (400,), NO_BATCH, "items"),
    Point("stored response", "/v1/data/regate/history/allow", read_response, (404,), NEVER_TRUE),
    Point("stored items", BATCH, read_response, (200,), NO_BATCH, "items"),
    Point(
        "ingest", "/v1/data/regate/lib/batch/ingested", attach, (403, 404), NO_DOCUMENTS, again=attach_another
    ),
    Point("ingest anew", "/v1/data/regate/ingest/allow", amend, (403,), NEVER_TRUE),
    Point("ingest stamp anew", "/v1/data/regate/ingest/stamp", amend, (503,), NO_STAMP),
    Point("upload", "/v1/data/regate/file/allow", upload, (403,), NEVER_TRUE),
    Point("upload stamp", "/v1/data/regate/file/stamp", upload, (503,), NO_STAMP),
)


def cases(faults: Callable[[Point], Iterable[Fault]]) -> list[Any]:
    listed = [
        pytest.param(point, fault, id=f"{point.name}-{fault.__name__}")
        for point in POINTS
        for fault in faults(point)
    ]
    assert listed
    return listed


SHOWING = (search, read_content, download, list_models, list_stores, read_response)
"""Acts whose answer holds the secret when they are allowed, so that its absence means something."""
WRITING = (delete_store, attach, amend, upload)
"""Acts that would change what is stored."""
BEFORE_ALL = ("route", "quota")
"""Points that come before everything else of a request: refused there, it has called no model and
stored nothing.
"""
CALLING = (respond,)
"""Acts that call the model before the decision is reached."""


async def refused(scene: Scene, point: Point, fault: Fault) -> httpx.Response:
    """Do what leads to the decision while its answer is broken, and check all that must hold whatever
    the answer is.
    """
    untouched = point.act in WRITING or point.name.startswith(BEFORE_ALL)
    before = await scene.written() if untouched else {}
    sent, broken = len(scene.world.upstream.requests), scene.opa.broken
    with scene.opa.breaking(fault, point.concerns):
        answer = await point.act(scene)
    requests = scene.world.upstream.requests[sent:]

    assert scene.opa.broken > broken, "the walk did not reach the decision"
    assert answer.status_code in (503, *point.denied), answer.text
    assert point.secret(scene) not in answer.text
    assert CANARY not in json.dumps(requests)
    assert requests == [] or (point.act in CALLING and not point.name.startswith(BEFORE_ALL))
    assert not untouched or await scene.written() == before
    again = await (point.again or point.act)(scene)
    assert again.status_code == 200, again.text
    assert point.act not in SHOWING or point.secret(scene) in again.text
    return answer


@pytest.mark.parametrize(("point", "fault"), cases(lambda point: NO_ANSWER))
async def test_decision_that_opa_cannot_make_is_unavailable(scene: Scene, point: Point, fault: Fault) -> None:
    answer = await refused(scene, point, fault)

    codes = (
        {"policy_unavailable", "filter_not_expressible"}
        if point.path == "/v1/compile"
        else {"policy_unavailable"}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) in {(503, code) for code in codes}


@pytest.mark.parametrize(("point", "fault"), cases(lambda point: (*NOT_YES, *map(result, point.values))))
async def test_answer_that_is_not_exactly_a_yes_permits_nothing(
    scene: Scene, point: Point, fault: Fault
) -> None:
    await refused(scene, point, fault)


async def test_opa_that_is_gone_makes_the_gateway_unready_until_it_is_back(scene: Scene) -> None:
    async with httpx.AsyncClient(base_url=scene.world.url, timeout=120) as anyone:
        with scene.opa.breaking(dead, everything):
            during = [(await anyone.get(path)).status_code for path in ("/healthz", "/readyz")]

        assert during == [200, 503]
        assert (await anyone.get("/readyz")).status_code == 200


class Meeting:
    """Questions that wait for each other: none is answered until one of each path has come."""

    def __init__(self, *paths: str) -> None:
        self._missing = set(paths)
        self._met = asyncio.Event()

    async def __call__(self, opa: BreakableOpa, request: web.Request, body: bytes) -> web.StreamResponse:
        self._missing.discard(request.path)
        if not self._missing:
            self._met.set()
        await self._met.wait()
        return await opa.forward(opa.session, request.path_qs, body)


@pytest.mark.parametrize("act", [chat, respond])
async def test_quota_and_route_are_asked_at_once(
    scene: Scene, act: Callable[[Scene], Awaitable[httpx.Response]]
) -> None:
    asked = ("/v1/data/regate/quota/limits", "/v1/data/regate/route/allow")
    with scene.opa.breaking(Meeting(*asked), lambda path, _: path in asked):
        answer = await act(scene)

    assert answer.status_code == 200, answer.text


async def test_store_with_a_file_that_is_deleted_while_it_is_decided_about_is_not_made(scene: Scene) -> None:
    file = await scene.upload("Gone soon.")
    before = await scene.written()

    async def deleting(opa: BreakableOpa, request: web.Request, body: bytes) -> web.StreamResponse:
        answer = await opa.forward(opa.session, request.path_qs, body)
        await scene.alice.delete(f"/files/{file}")
        return answer

    with scene.opa.breaking(deleting, lambda path, _: path == "/v1/data/regate/lib/batch/ingested"):
        answer = await scene.alice.post("/vector_stores", json={"name": "new", "file_ids": [file]})
    after = await scene.written()

    assert (answer.status_code, after["/vector_stores"]) == (404, before["/vector_stores"])


async def lacking_a_rule(opa: BreakableOpa, request: web.Request, body: bytes) -> web.StreamResponse:
    """The policy's description of itself, as it is when a rule that the gateway asks for is not among
    its rules.
    """
    whole = await opa.forward(opa.session, request.path_qs, body)
    assert isinstance(whole.body, bytes)
    answer = json.loads(whole.body)
    assert answer["result"]["places"].pop("data.regate.quota.limits")
    return web.json_response(answer)


async def test_policy_that_lacks_a_rule_makes_the_gateway_unready_and_is_told(scene: Scene) -> None:
    async with httpx.AsyncClient(base_url=scene.world.url, timeout=120) as anyone:
        with scene.opa.breaking(lacking_a_rule, lambda path, _: path == "/v1/data/regate/meta"):
            during = await anyone.get("/readyz")
        after = await anyone.get("/readyz")

    assert (during.status_code, during.json()["status"]) == (503, "not ready")
    assert "regate/quota/limits" in during.json()["policy_problem"]
    assert (after.status_code, "policy_problem" in after.json()) == (200, False)


async def test_hundred_requests_at_once_are_all_refused_in_time_while_opa_hangs(scene: Scene) -> None:
    with scene.opa.breaking(hanging, everything):
        answers = await asyncio.gather(*(search(scene) for _ in range(100)))

    assert {answer.status_code for answer in answers} == {503}
    assert (await search(scene)).status_code == 200


# ---------------------------------------------------------------- figures


async def test_metrics_tell_of_decisions_and_outages_and_of_nobody(scene: Scene) -> None:
    async def figures() -> dict[str, float]:
        lines = (await anyone.get("/metrics")).text.splitlines()
        return {
            name: float(value)
            for name, _, value in (line.rpartition(" ") for line in lines if line.startswith("regate_"))
        }

    async with httpx.AsyncClient(base_url=scene.world.url, timeout=120) as anyone:
        before = await figures()
        await search(scene)
        with scene.opa.breaking(failing, POINTS[0].concerns):
            await search(scene)
        await anyone.get("/nowhere/alice")
        after = await figures()
    grown = {name for name in after if after[name] > before.get(name, 0)}

    route = 'method="POST",route="/v1/vector_stores/{store_id}/search"'
    assert {
        'regate_decisions_total{allowed="true",point="authn"}',
        'regate_decisions_total{allowed="true",point="store"}',
        'regate_decisions_total{allowed="true",point="chunk"}',
        'regate_decision_seconds_count{kind="ask"}',
        'regate_decision_seconds_count{kind="plan"}',
        'regate_decision_seconds_count{kind="batch"}',
        'regate_policy_unavailable_total{cause="answer"}',
        'regate_retrieval_candidates_total{outcome="admitted"}',
    } <= grown
    assert f'regate_requests_total{{{route},status="200"}}' in grown
    assert f'regate_requests_total{{{route},status="503"}}' in grown
    assert 'regate_requests_total{method="GET",route="unlisted",status="404"}' in grown
    assert {
        "regate_pushdown_mismatch_total",
        "regate_audit_lost_total",
        'regate_plan_cache_total{outcome="hit"}',
    } <= after.keys() - grown
    assert [name for name in after if name.startswith("regate_policy_info")] == [
        f'regate_policy_info{{revision="{scene.revision}"}}'
    ]
    assert not any(word in name for name in after for word in ("alice", "acme", scene.store, "small"))


# ---------------------------------------------------------------- the scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    root = tmp_path_factory.mktemp("outage")
    policies = Path(shutil.copytree(shipped_policies(), root / "rego"))
    (policies / "broken").mkdir()
    (policies / "broken" / "broken.rego").write_text(CONFLICT)
    async with AsyncExitStack() as stack:
        managed = running_opa(policies, deadline_s=10)
        await stack.enter_async_context(managed)
        address = managed.process.address
        assert address.socket is not None
        assert address.token is not None
        opa = BreakableOpa(
            await stack.enter_async_context(
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(address.socket)))
            ),
            address.token,
            await opa_without_policy(stack, root / "empty.sock"),
        )
        proxy = await served(stack, [(method, "/{path:.*}", opa.handle) for method in ("GET", "POST")])
        upstream = ScriptedUpstream()
        routes = [
            ("GET", "models", upstream.models),
            ("POST", "chat/completions", upstream.chat),
            ("POST", "embeddings", upstream.embeddings),
        ]
        base = await served(stack, [(method, f"/v1/{path}", handler) for method, path, handler in routes])
        upstream.url = f"{base}/v1"
        settings = Settings.model_validate(
            {
                "data_dir": root / "data",
                "listen": {"port": 0},
                "upstreams": [{"name": "scripted", "base_url": upstream.url}],
                # No plan is remembered: each search must ask for its own, or the outage would not be seen.
                "opa": {
                    "mode": "remote",
                    "url": proxy,
                    "token_env": "REGATE_TEST_OPA_TOKEN",
                    "timeout_ms": OPA_MS,
                    "cache_s": 0,
                },
                "vector": {"stores": {"main": {"kind": "memory"}}},
                "telemetry": {"access_log": False},
            }
        )
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("REGATE_TEST_OPA_TOKEN", address.token)
        app, gateway = gateway_app(settings)
        server = await stack.enter_async_context(Running(app, settings.listen))
        never_waiting_long(opa_client(gateway), opa)
        world = World(server.url, settings, gateway, upstream, policies)
        headers = {"Authorization": f"Bearer {world.token('alice', 'acme', teams=['hr'])}"}
        fresh = httpx.Limits(
            max_keepalive_connections=0
        )  # a connection each, so that no request meets what another left
        alice = httpx.AsyncClient(base_url=f"{world.url}/v1", headers=headers, timeout=90, limits=fresh)
        made = Scene(world, opa, await stack.enter_async_context(alice), managed.process.revision)
        await made.prepare()
        yield made


def never_waiting_long(client: OpaClient, opa: BreakableOpa) -> None:
    """Have the gateway give up soon on those questions alone that will never be answered."""
    usual, post = client._deadline_s, client.post

    async def asked(path: str, document: JsonObject) -> Reply:
        never = opa.fault in (hanging, slow) and opa.concerns(path.partition("?")[0], document)
        client._deadline_s = NEVER_SECONDS if never else usual
        return await post(path, document)

    client.post = asked  # type: ignore[method-assign]


async def opa_without_policy(stack: AsyncExitStack, socket: Path) -> aiohttp.ClientSession:
    """Return a session with an OPA that runs and knows nothing."""
    process = await asyncio.create_subprocess_exec(
        *(
            str(require_opa()),
            "run",
            "--server",
            "--addr",
            f"unix://{socket}",
            "--skip-version-check",
            "--log-level",
            "error",
        )
    )
    stack.push_async_callback(process.wait)
    stack.callback(process.terminate)
    while not socket.exists():
        assert process.returncode is None
        await asyncio.sleep(0.01)  # a process says in no other way that it listens
    return await stack.enter_async_context(
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket)))
    )


async def served(stack: AsyncExitStack, routes: list[tuple[str, str, Any]]) -> str:
    """Serve the routes on loopback and return the URL. A handler ends when its client leaves."""
    app = web.Application()
    for method, path, handler in routes:
        app.router.add_route(method, path, handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}"
