"""Ids in requests: one that can be nobody's is refused by its place, before anything is done, paid
or kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import pytest
from tests.deployments import only_on
from tests.e2e.conftest import World
from tests.e2e.test_socket import ask, socket

pytestmark = only_on("embedded")

Body = Callable[[Any], dict[str, Any]]
JSON: Final = {"content-type": "application/json"}


def of_response(**fields: Any) -> dict[str, Any]:
    return {"model": "small", "input": "Hi", **fields}


def of_items(item: dict[str, Any]) -> dict[str, Any]:
    return of_response(input=[{"role": "user", "content": "Hi"}, item])


def of_part(kind: str, **members: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "input_text", "text": "Hi"}, {"type": kind, **members}]}


def of_search(*stores: Any) -> dict[str, Any]:
    return of_response(tools=[{"type": "file_search", "vector_store_ids": list(stores)}])


def call(**members: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", **members}


ITEMS: Final[dict[str, tuple[Body, str]]] = {
    "reference": (lambda value: {"type": "item_reference", "id": value}, "id"),
    "bare reference": (lambda value: {"id": value}, "id"),
    "image": (lambda value: of_part("input_image", file_id=value), "content[1].file_id"),
    "file": (lambda value: of_part("input_file", file_id=value), "content[1].file_id"),
    "call": (lambda value: call(call_id=value), "call_id"),
    "name of a call": (lambda value: call(name=value), "name"),
    "namespace of a call": (lambda value: call(namespace=value), "namespace"),
    "output": (lambda value: {"type": "function_call_output", "call_id": value, "output": "x"}, "call_id"),
    "custom output": (
        lambda value: {"type": "custom_tool_call_output", "call_id": value, "output": "x"},
        "call_id",
    ),
    "file in an output": (
        lambda value: {
            "type": "function_call_output",
            "call_id": "c",
            "output": [{"type": "input_file", "file_id": value}],
        },
        "output[0].file_id",
    ),
}
REQUESTS: Final[dict[str, tuple[Body, str]]] = {
    "previous response": (lambda value: of_response(previous_response_id=value), "previous_response_id"),
    "conversation": (lambda value: of_response(conversation=value), "conversation"),
    "conversation as an object": (lambda value: of_response(conversation={"id": value}), "conversation.id"),
    "store": (lambda value: of_search(value), "tools[0].vector_store_ids[0]"),
    "second store": (lambda value: of_search("vs_1", value), "tools[0].vector_store_ids[1]"),
    "prompt": (lambda value: {"model": "small", "prompt": {"id": value}}, "prompt.id"),
    "version of a prompt": (
        lambda value: {"model": "small", "prompt": {"id": "pmpt_1", "version": value}},
        "prompt.version",
    ),
    **{
        name: ((lambda value, make=make: of_items(make(value))), f"input[1].{place}")
        for name, (make, place) in ITEMS.items()
    },
}
"""Bodies of `POST /v1/responses` with one id in them, and where that stands."""

ELSEWHERE: Final[dict[str, tuple[str, Body, str]]] = {
    **{
        f"{name} in a conversation": (
            "/conversations",
            (lambda value, make=make: {"items": [make(value)]}),
            f"items[0].{place}",
        )
        for name, (make, place) in ITEMS.items()
    },
    "previous response, compacted": (
        "/responses/compact",
        lambda value: of_response(previous_response_id=value),
        "previous_response_id",
    ),
    "reference, compacted": ("/responses/compact", lambda value: of_items({"id": value}), "input[1].id"),
    "conversation, measured": (
        "/responses/input_tokens",
        lambda value: of_response(conversation=value),
        "conversation",
    ),
    "file, measured": (
        "/responses/input_tokens",
        lambda value: of_items(of_part("input_file", file_id=value)),
        "input[1].content[1].file_id",
    ),
    "files of a store": (
        "/vector_stores",
        lambda value: {"name": "n", "file_ids": ["file-1", value]},
        "file_ids[1]",
    ),
    "file of a store": ("/vector_stores/STORE/files", lambda value: {"file_id": value}, "file_id"),
    "batch": ("/vector_stores/STORE/file_batches", lambda value: {"file_ids": [value]}, "file_ids[0]"),
    "batch of files": (
        "/vector_stores/STORE/file_batches",
        lambda value: {"files": [{"file_id": value}]},
        "files[0].file_id",
    ),
    "store in a template": (
        "/prompts",
        lambda value: {
            "name": "n",
            "template": {
                "instructions": "Hi",
                "tools": [{"type": "file_search", "vector_store_ids": [value]}],
            },
        },
        "template.tools[0].vector_store_ids[0]",
    ),
    "file in a template": (
        "/prompts",
        lambda value: {"name": "n", "template": {"input": [of_part("input_file", file_id=value)]}},
        "template.input[0].content[1].file_id",
    ),
}

BAD: Final[dict[str, tuple[Any, str]]] = {
    "empty": ("", "empty_string"),
    "long": ("x" * 257, "string_above_max_length"),
    "number": (7, "invalid_type"),
    "object": ({"id": "x"}, "invalid_type"),
}


def expected(name: str, bad: str, place: str) -> tuple[int, str, str]:
    if bad == "object" and name in ("conversation", "conversation, measured"):
        return 404, place, "not_found"  # an object is the other way to name one
    return 400, place, BAD[bad][1]


@pytest.mark.parametrize("bad", BAD)
async def test_id_that_can_be_nobodys_is_refused_by_its_place_before_anything_is_done(
    world: World, bad: str
) -> None:
    value = BAD[bad][0]
    async with world.http() as http:
        store = (await http.post("/vector_stores", json={"name": "s"})).json()["id"]
        cases = {name: ("/responses", make, place) for name, (make, place) in REQUESTS.items()} | ELSEWHERE
        found: dict[str, tuple[int, str, str]] = {}
        for name, (path, make, _) in cases.items():
            answer = await http.post(path.replace("STORE", store), json=make(value))
            error = answer.json().get("error") or {}
            found[name] = (answer.status_code, error.get("param") or "", error.get("code") or "")
        kept = {path: (await http.get(path)).json()["data"] for path in ("/responses", "/prompts", "/files")}

    assert found == {name: expected(name, bad, place) for name, (_, _, place) in cases.items()}
    assert (world.upstream.requests, kept) == ([], {"/responses": [], "/prompts": [], "/files": []})


async def test_id_that_can_be_nobodys_is_refused_over_a_socket(world: World) -> None:
    found: dict[str, tuple[Any, Any]] = {}
    async with socket(world, world.token("alice", "acme")) as connection:
        for name, (make, _) in REQUESTS.items():
            frame = (await ask(connection, **make("")))[-1]
            found[name] = (frame.get("status"), frame.get("param"))

    assert found == {name: (400, place) for name, (_, place) in REQUESTS.items()}
    assert world.upstream.requests == []


async def test_id_with_a_nul_is_refused_wherever_it_stands(world: World) -> None:
    async with world.http() as http:
        answers = [
            await http.post("/responses", content=json.dumps(make("a\0b")), headers=JSON)
            for make, _ in REQUESTS.values()
        ]
        paths = (
            "/responses",
            "/files",
            "/vector_stores",
            "/conversations",
            "/prompts",
            "/vector_stores/vs_1/files",
            "/models",
        )
        gone = [(await http.get(f"{path}/a%00b")).status_code for path in paths]

    assert [answer.status_code for answer in answers] == [400] * len(REQUESTS)
    assert gone == [404] * len(paths)
