"""Prompts over sockets: managed over the API, used through the official client, shared by stamp and
decided at each use.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tests.e2e.conftest import World, text

TEMPLATE: dict[str, Any] = {
    "model": "small",
    "instructions": "You answer in {{language}}.",
    "input": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "What is the weather in {{city}}?"},
    ],
    "temperature": 0.25,
}
VALUES = {"language": "French", "city": "Lyon"}
PRIVATE = {"regate.visibility": "private"}
PNG = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d494844520000000100000001080600000"
        "01f15c4890000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
    )
).decode()


async def made(
    world: World,
    *,
    template: Any = None,
    metadata: Any = None,
    subject: str = "alice",
    tenant: str = "acme",
    **claims: Any,
) -> str:
    """Make a prompt and return its id."""
    body = {"name": "Weather", "template": template or TEMPLATE, "metadata": metadata or {}}
    async with world.http(subject, tenant, **claims) as http:
        answer = await http.post("/prompts", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def messages(world: World) -> list[tuple[str, Any]]:
    return [(message["role"], message["content"]) for message in world.upstream.requests[-1]["messages"]]


def faults(answers: list[httpx.Response]) -> list[tuple[int, str | None]]:
    return [(answer.status_code, answer.json()["error"]["param"]) for answer in answers]


# ---------------------------------------------------------------- managing


async def test_prompt_is_made_changed_and_deleted(world: World) -> None:
    async with world.http() as http:
        created = (
            await http.post(
                "/prompts",
                json={"name": "Weather", "template": TEMPLATE, "metadata": {"regate.teams": "", "a": "b"}},
            )
        ).json()
        place = f"/prompts/{created['id']}"
        second = (
            await http.post(f"{place}/versions", json={"template": {"instructions": "Hello {{name}}."}})
        ).json()
        before = (await http.get(place)).json()
        changed = (await http.post(place, json={"name": "Greeting", "default_version": "2"})).json()
        listed = (await http.get("/prompts")).json()
        versions = [
            (await http.get(f"{place}/versions", params={"limit": 1, **more})).json()
            for more in ({}, {"after": "2"})
        ]
        first = (await http.get(f"{place}/versions/1")).json()
        deleted = (await http.delete(place)).json()
        gone = [
            (await http.get(path)).status_code for path in (place, f"{place}/versions", f"{place}/versions/1")
        ]

    shared = {
        "id": created["id"],
        "object": "prompt",
        "created_at": created["created_at"],
        "metadata": {"regate.teams": "", "a": "b"},
    }
    weather = {"template": TEMPLATE, "variables": ["language", "city"]}
    assert created == {**shared, "name": "Weather", "default_version": "1", "latest_version": "1", **weather}
    assert before == {**created, "latest_version": "2"}
    summary = {**shared, "name": "Greeting", "default_version": "2", "latest_version": "2"}
    assert changed == {**summary, "template": {"instructions": "Hello {{name}}."}, "variables": ["name"]}
    assert listed == {
        "object": "list",
        "data": [summary],
        "first_id": created["id"],
        "last_id": created["id"],
        "has_more": False,
    }
    assert first == {
        "object": "prompt.version",
        "prompt_id": created["id"],
        "version": "1",
        "created_at": first["created_at"],
        **weather,
    }
    assert [(page["data"], page["first_id"], page["has_more"]) for page in versions] == [
        ([second], "2", True),
        ([first], "1", False),
    ]
    assert (deleted, gone) == ({"id": created["id"], "object": "prompt.deleted", "deleted": True}, [404] * 3)
    assert created["id"].startswith("pmpt_")


NO_PROMPTS: list[tuple[dict[str, Any], str]] = [
    ({"name": None}, "name"),
    ({"name": "  "}, "name"),
    ({"name": "x" * 257}, "name"),
    ({"template": None}, "template"),
    ({"template": {"instructions": "x", "store": True}}, "template.store"),
    ({"template": {"instructions": "x", "model": "{{m}}"}}, "template.model"),
    ({"metadata": {"regate.teams": 1}}, "metadata.regate.teams"),
    ({"metadata": {"regate.share": "all_tenants"}}, "metadata.regate.share"),
    ({"metadata": {"tenant": "globex"}}, "metadata.tenant"),
    ({"owner": "bob"}, "owner"),
    ({"stamp": {}}, "stamp"),
]


async def test_what_makes_no_prompt_is_refused_by_name(world: World) -> None:
    async with world.http() as http:
        answers = [
            await http.post("/prompts", json={"name": "Weather", "template": TEMPLATE} | change)
            for change, _ in NO_PROMPTS
        ]
        listed = (await http.get("/prompts")).json()["data"]

    assert faults(answers) == [(400, param) for _, param in NO_PROMPTS]
    assert listed == []


async def test_prompt_that_is_sent_again_is_made_once(world: World) -> None:
    async with world.http() as http:
        body, headers = {"name": "Weather", "template": TEMPLATE}, {"Idempotency-Key": "weather"}
        answers = [(await http.post("/prompts", json=body, headers=headers)).json() for _ in range(2)]
        listed = (await http.get("/prompts")).json()["data"]

    assert (answers[0], len(listed)) == (answers[1], 1)


async def test_one_requests_only_what_one_holds(world: World) -> None:
    async with world.http(teams=["hr"]) as http:
        body = {"name": "Weather", "template": TEMPLATE, "metadata": {"regate.teams": "finance"}}
        answer = await http.post("/prompts", json=body)

    assert (answer.status_code, answer.json()["error"]["code"], "teams that you hold" in answer.text) == (
        403,
        "policy_denied",
        True,
    )


NO_CHANGES: list[tuple[dict[str, Any], str]] = [
    ({}, "name"),
    ({"name": " "}, "name"),
    ({"default_version": "2"}, "default_version"),
    ({"default_version": "0"}, "default_version"),
    ({"default_version": "one"}, "default_version"),
    ({"default_version": 1}, "default_version"),
    ({"metadata": {}}, "metadata"),
    ({"template": TEMPLATE}, "template"),
]


async def test_change_that_cannot_be_made_is_refused_by_name(world: World) -> None:
    identifier = await made(world)
    async with world.http() as http:
        before = (await http.get(f"/prompts/{identifier}")).json()
        answers = [await http.post(f"/prompts/{identifier}", json=body) for body, _ in NO_CHANGES]
        after = (await http.get(f"/prompts/{identifier}")).json()

    assert faults(answers) == [(400, param) for _, param in NO_CHANGES]
    assert before == after


async def test_version_that_there_is_not_is_not_found(world: World) -> None:
    identifier = await made(world)
    versions = ["2", "0", "01", "one", "-1", "1.0", "9" * 30, " 1", "١"]
    async with world.http() as http:
        managed = [await http.get(f"/prompts/{identifier}/versions/{version}") for version in versions]
        bodies = [
            {"prompt": {"id": identifier, "version": version, "variables": VALUES}} for version in versions
        ]
        used = [await http.post("/responses", json=body) for body in bodies]

    assert faults(managed) == [(404, None)] * len(versions)
    assert faults(used) == [(404, "prompt.version")] * len(versions)
    assert world.upstream.requests == []


# ---------------------------------------------------------------- whose it is


def told(answer: httpx.Response, identifier: str) -> tuple[int, str]:
    return answer.status_code, answer.text.replace(identifier, "ID")


ROUTES = [
    ("GET", "", None),
    ("POST", "", {"name": "Mine"}),
    ("DELETE", "", None),
    ("GET", "/versions", None),
    ("POST", "/versions", {"template": TEMPLATE}),
    ("GET", "/versions/1", None),
    ("GET", "/versions/7", None),
]


async def test_foreign_prompt_answers_exactly_as_an_absent_one(world: World) -> None:
    identifier = await made(world, metadata=PRIVATE, teams=["hr"])
    absent = "pmpt_" + "0" * 48
    asked = [
        (one, method, f"/prompts/{one}{tail}", body)
        for method, tail, body in ROUTES
        for one in (identifier, absent)
    ]
    asked += [
        (one, "POST", "/responses", {"prompt": {"id": one, "variables": VALUES}})
        for one in (identifier, absent)
    ]
    for subject, tenant in (("mallory", "globex"), ("alice", "globex"), ("bob", "acme")):
        async with world.http(subject, tenant, teams=["hr"], roles=["policy_admin"]) as http:
            answers = [
                told(await http.request(method, path, json=body), one) for one, method, path, body in asked
            ]
            listed = (await http.get("/prompts")).json()["data"]
        assert (answers[::2], {status for status, _ in answers}, listed) == (answers[1::2], {404}, [])
    async with world.http(teams=["hr"]) as http:
        mine = (await http.get(f"/prompts/{identifier}")).json()

    assert (mine["name"], mine["latest_version"], world.upstream.requests) == ("Weather", "1", [])


async def test_matching_team_reads_and_uses_but_does_not_change(world: World) -> None:
    identifier = await made(world, teams=["hr"])
    async with world.http("bob", "acme", teams=["hr"]) as http:
        listed = [one["id"] for one in (await http.get("/prompts")).json()["data"]]
        answers = [
            (await http.request(method, f"/prompts/{identifier}{tail}", json=body)).status_code
            for method, tail, body in ROUTES
        ]
    response = await world.client("bob", "acme", teams=["hr"]).responses.create(
        prompt={"id": identifier, "variables": VALUES}
    )

    assert (listed, response.status) == ([identifier], "completed")
    assert answers == [200, 403, 403, 200, 403, 200, 404]


async def test_other_user_without_a_match_has_no_such_prompt(world: World) -> None:
    identifier = await made(world, teams=["hr"])
    with pytest.raises(openai.NotFoundError) as refusal:
        await world.client("bob", "acme", teams=["sales"]).responses.create(
            prompt={"id": identifier, "variables": VALUES}
        )

    assert refusal.value.body == {
        "message": f"Prompt with id '{identifier}' not found.",
        "type": "invalid_request_error",
        "param": "prompt.id",
        "code": "not_found",
    }
    assert world.upstream.requests == []


async def test_administrator_changes_what_is_shared_and_no_private_draft(world: World) -> None:
    draft, shared = (
        await made(world, metadata=PRIVATE),
        await made(world, metadata={"regate.visibility": "tenant"}),
    )
    async with world.http("root", "acme", roles=["policy_admin"]) as http:
        answers = [
            (await http.post(f"/prompts/{one}", json={"name": "Checked"})).status_code
            for one in (draft, shared)
        ]

    assert answers == [404, 200]


async def test_stamp_is_never_shown(world: World) -> None:
    identifier = await made(world, teams=["secret-team"], subject="somebody")
    paths = [
        "/prompts",
        f"/prompts/{identifier}",
        f"/prompts/{identifier}/versions",
        f"/prompts/{identifier}/versions/1",
    ]
    async with world.http("somebody", "acme", teams=["secret-team"]) as http:
        shown = "".join([(await http.get(path)).text for path in paths])

    assert [word in shown for word in ("secret-team", "somebody", "acme", identifier)] == [
        False,
        False,
        False,
        True,
    ]


async def test_lists_go_on_over_what_the_caller_may_see_alone(world: World) -> None:
    own = []
    for number in range(5):
        own.append(await made(world, metadata=PRIVATE))
        await made(world, metadata=PRIVATE, subject="bob")
        if number % 2:
            await made(world, metadata={"regate.visibility": "tenant"}, tenant="globex")
    seen: list[str] = []
    async with world.http() as http:
        more, after = True, {}
        while more:
            page = (await http.get("/prompts", params={"limit": 2, "order": "asc", **after})).json()
            seen += [one["id"] for one in page["data"]]
            more, after = page["has_more"], {"after": page["last_id"]}

    assert sorted(seen) == sorted(own)


# ---------------------------------------------------------------- using


async def test_official_client_uses_a_prompt(world: World) -> None:
    identifier = await made(world)
    world.upstream.turns = [text("Il pleut.")]
    response = await world.client().responses.create(
        prompt={"id": identifier, "version": "1", "variables": VALUES}
    )

    assert (response.output_text, response.model, response.temperature) == ("Il pleut.", "small", 0.25)
    assert response.prompt is not None
    assert response.prompt.to_dict() == {"id": identifier, "version": "1", "variables": VALUES}
    assert messages(world) == [
        ("system", "You answer in French.\n\nBe brief."),
        ("user", "What is the weather in Lyon?"),
    ]


async def test_official_client_streams_a_prompt(world: World) -> None:
    identifier = await made(world)
    world.upstream.turns = [text("Il ", "pleut.")]
    stream = await world.client().responses.create(
        prompt={"id": identifier, "variables": VALUES}, stream=True
    )
    ends = [
        event.response async for event in stream if event.type in ("response.created", "response.completed")
    ]

    assert [one.prompt and one.prompt.version for one in ends] == ["1", "1"]
    assert ends[-1].output_text == "Il pleut."


async def test_official_client_uses_a_prompt_over_a_socket_and_nobody_elses(world: World) -> None:
    mine, other = await made(world), await made(world, metadata=PRIVATE, subject="bob")
    world.upstream.turns = [text("Il pleut.")]
    ends = []
    async with world.client().responses.connect() as connection:
        for identifier in (other, mine):
            await connection.response.create(prompt={"id": identifier, "variables": VALUES})
            async for event in connection:
                if event.type in ("error", "response.completed"):
                    ends.append(event.to_dict())
                    break

    assert [ends[0]["error"][name] for name in ("message", "param")] == [
        f"Prompt with id '{other}' not found.",
        "prompt.id",
    ]  # type: ignore[index,call-overload]
    assert (ends[1]["response"]["prompt"]["id"], len(world.upstream.requests)) == (mine, 1)  # type: ignore[index,call-overload]
    assert messages(world)[-1] == ("user", "What is the weather in Lyon?")


async def test_prompt_runs_in_the_background(world: World) -> None:
    identifier = await made(world)
    queued = await world.client().responses.create(
        prompt={"id": identifier, "variables": VALUES}, background=True, stream=True
    )
    last = [event async for event in queued][-1]

    assert (last.type, messages(world)[0]) == (
        "response.completed",
        ("system", "You answer in French.\n\nBe brief."),
    )


async def test_request_wins_over_the_template_and_its_items_come_last(world: World) -> None:
    identifier = await made(world)
    response = await world.client().responses.create(
        prompt={"id": identifier, "variables": VALUES},
        model="large",
        instructions="Shout.",
        input="And tomorrow?",
        temperature=1,
    )

    assert (response.model, response.temperature, response.instructions) == ("large", 1, "Shout.")
    assert messages(world) == [
        ("system", "Shout.\n\nBe brief."),
        ("user", "What is the weather in Lyon?"),
        ("user", "And tomorrow?"),
    ]


async def test_default_version_is_used_until_another_is_named(world: World) -> None:
    identifier = await made(world, template={"model": "small", "input": [{"role": "user", "content": "One"}]})
    async with world.http() as http:
        for number in ("Two", "Three"):
            template = {"model": "small", "input": [{"role": "user", "content": number}]}
            await http.post(f"/prompts/{identifier}/versions", json={"template": template})
        await http.post(f"/prompts/{identifier}", json={"default_version": "2"})
    seen = []
    for version in (None, "1", "3"):
        response = await world.client().responses.create(prompt={"id": identifier, "version": version})
        seen.append((messages(world), response.prompt and response.prompt.version))

    assert seen == [([("user", "Two")], "2"), ([("user", "One")], "1"), ([("user", "Three")], "3")]


async def test_values_are_data_whatever_they_say(world: World) -> None:
    identifier = await made(world)
    hostile = {"language": "{{city}}", "city": "{{language}} \\1 }}{{"}
    await world.client().responses.create(prompt={"id": identifier, "variables": hostile})

    assert [text for _, text in messages(world)] == [
        "You answer in {{city}}.\n\nBe brief.",
        "What is the weather in {{language}} \\1 }}{{?",
    ]


async def test_image_and_file_stand_for_whole_parts(world: World) -> None:
    content = [
        {"type": "input_text", "text": part} for part in ("Describe {{how}}:", "{{photo}}", "{{notes}}")
    ]
    identifier = await made(
        world, template={"model": "small", "input": [{"role": "user", "content": content}]}
    )
    file = await world.client().files.create(file=("notes.txt", b"Taken in Lyon."), purpose="user_data")
    await world.client().responses.create(
        prompt={
            "id": identifier,
            "variables": {
                "how": {"type": "input_text", "text": "briefly"},
                "photo": {
                    "type": "input_image",
                    "image_url": f"data:image/png;base64,{PNG}",
                    "detail": "auto",
                },
                "notes": {"type": "input_file", "file_id": file.id},
            },
        }
    )
    ((role, parts),) = messages(world)

    assert (role, [part["type"] for part in parts]) == ("user", ["text", "image_url", "text"])
    assert (parts[0]["text"], "Taken in Lyon." in parts[2]["text"]) == ("Describe briefly:", True)


NO_VALUES: list[tuple[Any, str, str]] = [
    ({"language": "French"}, "prompt.variables.city", "'city'"),
    (None, "prompt.variables.language", "'language', 'city'"),
    ({**VALUES, "x": "1", "y": "2"}, "prompt.variables.x", "'x', 'y'"),
    ({**VALUES, "city": 7}, "prompt.variables.city", "an integer"),
    ({**VALUES, "city": None}, "prompt.variables.city", "null"),
    ({**VALUES, "city": ["Lyon"]}, "prompt.variables.city", "an array"),
    (
        {**VALUES, "city": {"type": "output_text", "text": "Lyon"}},
        "prompt.variables.city.type",
        "output_text",
    ),
    ({**VALUES, "city": {"type": "input_text"}}, "prompt.variables.city.text", "city.text"),
    (
        {**VALUES, "city": {"type": "input_image", "image_url": "file:///etc/passwd"}},
        "prompt.variables.city.image_url",
        "data URL",
    ),
    (
        {**VALUES, "city": {"type": "input_file", "file_url": "file:///etc/passwd"}},
        "prompt.variables.city.file_url",
        "http(s) address",
    ),
    (
        {**VALUES, "city": {"type": "input_image", "file_id": "file-1"}},
        "prompt.variables.city",
        "within other text",
    ),
    ("French", "prompt.variables", "an object"),
]


async def test_values_that_do_not_fit_are_refused_by_name(world: World) -> None:
    identifier = await made(world)
    async with world.http() as http:
        bodies = [{"prompt": {"id": identifier, "variables": variables}} for variables, _, _ in NO_VALUES]
        answers = [await http.post("/responses", json=body) for body in bodies]

    assert faults(answers) == [(400, param) for _, param, _ in NO_VALUES]
    assert [
        named
        for answer, (_, _, named) in zip(answers, NO_VALUES, strict=True)
        if named not in answer.json()["error"]["message"]
    ] == []
    assert world.upstream.requests == []


MALFORMED: list[tuple[Any, str]] = [
    ("pmpt_1", "prompt"),
    ({}, "prompt.id"),
    ({"id": 5}, "prompt.id"),
    ({"id": "pmpt_1", "version": 2}, "prompt.version"),
    ({"id": "pmpt_1", "cache": True}, "prompt.cache"),
]


async def test_malformed_prompt_is_refused_by_name(world: World) -> None:
    async with world.http() as http:
        bodies = [{"model": "small", "input": "Hi", "prompt": prompt} for prompt, _ in MALFORMED]
        answers = [await http.post("/responses", json=body) for body in bodies]

    assert faults(answers) == [(400, param) for _, param in MALFORMED]


async def test_fault_in_the_requests_own_items_is_told_by_their_own_place(world: World) -> None:
    identifier = await made(world)
    async with world.http() as http:
        body = {
            "prompt": {"id": identifier, "variables": VALUES},
            "input": [{"role": "user", "content": "a"}, {"role": "robot", "content": "b"}],
        }
        answer = await http.post("/responses", json=body)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input[1].role")


async def test_short_request_does_not_become_a_huge_prompt(world: World) -> None:
    identifier = await made(world, template={"model": "small", "instructions": "{{a}}" * 1_000})
    async with world.http() as http:
        answer = await http.post(
            "/responses", json={"prompt": {"id": identifier, "variables": {"a": "x" * 100_000}}}
        )

    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
    assert world.upstream.requests == []


async def test_without_a_model_anywhere_the_model_is_missed(world: World) -> None:
    identifier = await made(world, template={"instructions": "Hi."})
    async with world.http() as http:
        answer = await http.post("/responses", json={"prompt": {"id": identifier}, "input": "Hi"})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")


# ---------------------------------------------------------------- what a template may not smuggle in


async def test_file_in_a_template_is_read_with_the_users_authority(world: World) -> None:
    dora = {"subject": "dora", "tenant": "acme", "teams": ["board"]}
    file = await world.client(**dora).files.create(
        file=("d.txt", b"The board's own words."), purpose="user_data"
    )
    template = {
        "model": "small",
        "input": [{"role": "user", "content": [{"type": "input_file", "file_id": file.id}]}],
    }
    identifier = await made(world, template=template, metadata={"regate.visibility": "tenant"}, **dora)
    with pytest.raises(openai.NotFoundError):
        await world.client("bob", "acme").responses.create(prompt={"id": identifier})
    before = len(world.upstream.requests)
    await world.client("eve", "acme", teams=["board"]).responses.create(prompt={"id": identifier})

    assert (before, "The board's own words." in world.upstream.prompt) == (0, True)


async def test_store_in_a_template_is_searched_with_the_users_authority(world: World) -> None:
    store = await world.client("dora", "acme", teams=["board"]).vector_stores.create(name="Board")
    template = {
        "model": "small",
        "instructions": "Search.",
        "tools": [{"type": "file_search", "vector_store_ids": [store.id]}],
    }
    identifier = await made(
        world, template=template, metadata={"regate.visibility": "tenant"}, subject="dora", teams=["board"]
    )
    with pytest.raises(openai.NotFoundError):
        await world.client("bob", "acme").responses.create(
            prompt={"id": identifier}, input="What is decided?"
        )

    assert world.upstream.requests == []


# ---------------------------------------------------------------- what a policy may say

DENY_USE = """package regate.custom.prompt

# METADATA
# title: Not here
# description: Prompts are read and not used.
deny if input.action == "prompt.use"
"""


@pytest.fixture
def unusable(policies: Path) -> None:
    place = policies / "custom" / "prompt" / "prompt.rego"
    place.parent.mkdir(parents=True)
    place.write_text(DENY_USE)


async def test_prompt_that_may_be_seen_and_not_used_is_403(unusable: None, world: World) -> None:
    identifier = await made(world, metadata=PRIVATE)
    body = {"prompt": {"id": identifier, "variables": VALUES}}
    answers = []
    for subject in ("alice", "bob"):
        async with world.http(subject) as http:
            answers.append((await http.post("/responses", json=body)).status_code)

    assert (answers, world.upstream.requests) == ([403, 404], [])


# ---------------------------------------------------------------- in time


async def test_instructions_are_not_carried_over_and_items_are(world: World) -> None:
    identifier = await made(world, metadata=PRIVATE)
    client = world.client()
    first = await client.responses.create(prompt={"id": identifier, "variables": VALUES})
    async with world.http() as http:
        await http.delete(f"/prompts/{identifier}")
    await client.responses.create(model="small", previous_response_id=first.id, input="Thanks.")
    items = [item async for item in client.responses.input_items.list(first.id, order="asc")]

    assert [role for role, _ in messages(world)] == ["system", "user", "assistant", "user"]
    assert "You answer in French." not in world.upstream.prompt
    assert [item.content[0].text for item in items] == ["Be brief.", "What is the weather in Lyon?"]  # type: ignore[union-attr]


async def test_each_use_is_decided_by_the_rights_of_now(world: World) -> None:
    identifier = await made(world, teams=["hr"])
    first = await world.client("bob", "acme", teams=["hr"]).responses.create(
        prompt={"id": identifier, "variables": VALUES}
    )
    with pytest.raises(openai.NotFoundError):
        await world.client("bob", "acme").responses.create(
            prompt={"id": identifier, "variables": VALUES}, previous_response_id=first.id, input="Again."
        )

    assert len(world.upstream.requests) == 1


async def test_every_use_leaves_a_record_of_the_decision_and_the_version_without_text(world: World) -> None:
    identifier = await made(world)
    response = await world.client().responses.create(
        prompt={"id": identifier, "variables": {**VALUES, "city": "Atlantis"}}
    )
    with pytest.raises(openai.NotFoundError):
        await world.client("mallory", "globex").responses.create(
            prompt={"id": identifier, "variables": VALUES}
        )
    (allowed,) = world.audit(phase="prompt.use", tenant="acme")
    denied = world.audit(phase="prompt.use", tenant="globex")
    (used,) = world.audit(phase="prompt.used")
    (created,) = world.audit(phase="prompt.create")

    assert (allowed["response_id"], used["response_id"], used["prompt"]) == (
        response.id,
        response.id,
        {"id": identifier, "version": 1},
    )
    assert [
        (one["point"], one["about"], one["allowed"])
        for record in (created, allowed)
        for one in record["decisions"]
    ] == [("prompt", identifier, True)] * 2
    assert {(one["about"], one["allowed"]) for record in denied for one in record["decisions"]} == {
        (identifier, False)
    }
    written = json.dumps(world.audit())
    assert [word in written for word in ("Atlantis", "{{city}}", "You answer in", identifier)] == [
        False,
        False,
        False,
        True,
    ]
