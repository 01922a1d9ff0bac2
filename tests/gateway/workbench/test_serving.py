"""The running gateway: explanations over HTTP, and a candidate policy in the live one's shadow. Real
OPA, real stores, real sockets.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.gateway.workbench.recordings import copied_policies, edit

from regate_adapters.audit.reading import read
from regate_adapters.identity.jwt import mint_development_token
from regate_gateway.auth.authentication import DEVELOPMENT_AUDIENCE, DEVELOPMENT_ISSUER, shared_secret
from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running
from regate_gateway.workbench.replay.shadow import as_document, read_report


@dataclass
class Serving:
    url: str
    settings: Settings

    def as_(self, subject: str, tenant: str = "acme", **claims: Any) -> httpx.AsyncClient:
        secret = shared_secret(self.settings).reveal().encode()
        names = {
            "issuer": DEVELOPMENT_ISSUER,
            "audience": DEVELOPMENT_AUDIENCE,
            "subject": subject,
            "tenant": tenant,
        }
        token = mint_development_token(secret, ttl_s=3600, **names, **claims)
        return httpx.AsyncClient(
            base_url=f"{self.url}/v1", headers={"Authorization": f"Bearer {token}"}, timeout=120
        )

    def decisions(self, action: str) -> list[dict[str, Any]]:
        return [
            one
            for record in read(self.settings.audit.path)
            for one in record.get("decisions", ())
            if one["action"] == action
        ]


Serve = Callable[..., AbstractAsyncContextManager[Serving]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    @asynccontextmanager
    async def serving(**opa: Any) -> AsyncIterator[Serving]:
        values = {
            "data_dir": tmp_path / "data",
            "listen": {"port": 0},
            "opa": {"bundle": copied_policies(tmp_path / "rego"), **opa},
            "vector": {"stores": {"main": {"kind": "memory"}}},
            "telemetry": {"access_log": False},
        }
        settings = Settings.model_validate(values)
        app, _ = gateway_app(settings)
        async with Running(app, settings.listen) as server:
            yield Serving(server.url, settings)

    return serving


async def denied_decision(serving: Serving) -> str:
    """Have bob refused alice's private store, and return the decision's id."""
    async with serving.as_("alice") as alice, serving.as_("bob") as bob:
        made = (
            await alice.post(
                "/vector_stores", json={"name": "hers", "metadata": {"regate.visibility": "private"}}
            )
        ).json()
        assert (await bob.get(f"/vector_stores/{made['id']}")).status_code == 404
    return str(next(one["id"] for one in serving.decisions("store.read") if not one["allowed"]))


async def test_administrator_is_told_why_over_http(serve: Serve) -> None:
    async with serve() as serving:
        decision = await denied_decision(serving)
        async with serving.as_("carol", roles=["policy_admin"]) as admin:
            answer = await admin.get("/regate/explain", params={"decision": decision})

    (explained,) = answer.json()["decisions"]
    assert (answer.status_code, explained["allowed"], explained["reasons"]) == (
        200,
        False,
        ["not_shared_with_principal"],
    )
    assert explained["attempts"][0]["condition"]["text"] == "readable"
    assert str(serving.settings.opa.bundle) not in answer.text


async def test_explanation_does_not_exist_for_others(serve: Serve) -> None:
    async with serve() as serving:
        decision = await denied_decision(serving)
        async with serving.as_("bob") as bob:
            refused = await bob.get("/regate/explain", params={"decision": decision, "nonsense": "1"})
            unknown = await bob.get("/regate/unknown", params={"decision": decision})

    same = unknown.text.replace("/v1/regate/unknown", "/v1/regate/explain")
    assert (refused.status_code, refused.text) == (unknown.status_code, same)


async def test_decision_of_another_tenant_answers_as_one_that_does_not_exist(serve: Serve) -> None:
    async with serve() as serving:
        decision = await denied_decision(serving)
        async with serving.as_("eve", tenant="globex", roles=["policy_admin"]) as foreign:
            hidden = await foreign.get("/regate/explain", params={"decision": decision})
            absent = await foreign.get("/regate/explain", params={"decision": "dec_none"})
            response = await foreign.get("/regate/explain", params={"response": "resp_none"})

    assert (hidden.status_code, hidden.text) == (404, absent.text.replace("dec_none", decision))
    assert response.status_code == 404


async def stored(serving: Serving) -> tuple[str, str]:
    """Have alice attach a file to a private store of hers; return the ids of the file and the store."""
    async with serving.as_("alice") as alice:
        upload = {"file": ("plan.txt", b"The plan of the year.")}
        file = (await alice.post("/files", files=upload, data={"purpose": "assistants"})).json()["id"]
        store = (
            await alice.post(
                "/vector_stores", json={"name": "hers", "metadata": {"regate.visibility": "private"}}
            )
        ).json()["id"]
        assert (await alice.post(f"/vector_stores/{store}/files", json={"file_id": file})).status_code == 200
    return file, store


async def test_administrator_is_told_why_somebody_does_not_find_a_file(serve: Serve) -> None:
    async with serve() as serving:
        file, store = await stored(serving)
        async with serving.as_("carol", roles=["policy_admin"]) as admin:
            params = {"file": file, "store": store}
            answers = [
                (
                    await admin.get(
                        "/regate/explain", params={**params, "principal": json.dumps({"id": name})}
                    )
                ).json()
                for name in ("alice", "carl")
            ]

    assert [(one["object"], one["file"], one["decision"]["allowed"]) for one in answers] == [
        ("regate.explanation", file, True),
        ("regate.explanation", file, False),
    ]
    assert answers[1]["decision"]["reasons"]
    assert answers[1]["decision"]["attempts"]
    assert '"carl"' in answers[1]["filter"]["formula"]


ASKED_WRONG = {
    "no principal": ({"file": "file-1"}, 400, "'principal' says who would ask"),
    "no JSON": ({"file": "file-1", "principal": "carl"}, 400, "is no JSON"),
    "no object": ({"file": "file-1", "principal": "[1]"}, 400, "needs id and tenant"),
    "a misspelt key": (
        {"file": "file-1", "principal": '{"id": "carl", "team": ["hr"]}'},
        400,
        "did you mean 'teams'?",
    ),
    "another tenant's": (
        {"file": "file-1", "principal": '{"id": "eve", "tenant": "globex"}'},
        400,
        "of your own tenant",
    ),
    "a file that is not there": (
        {"file": "file-1", "principal": '{"id": "carl"}'},
        400,
        "has no file file-1",
    ),
    "a principal of a decision": (
        {"decision": "dec_1", "principal": '{"id": "carl"}'},
        400,
        "belong to 'file'",
    ),
}


@pytest.mark.parametrize("name", ASKED_WRONG)
async def test_what_cannot_be_supposed_is_refused_with_what_to_change(serve: Serve, name: str) -> None:
    params, status, words = ASKED_WRONG[name]
    async with serve() as serving, serving.as_("carol", roles=["policy_admin"]) as admin:
        answer = await admin.get("/regate/explain", params=params)

    assert (answer.status_code, words in answer.json()["error"]["message"]) == (status, True), answer.text


async def test_a_file_of_another_tenant_is_explained_to_nobody(serve: Serve) -> None:
    async with serve() as serving:
        file, _ = await stored(serving)
        asked = {"principal": json.dumps({"id": "alice"})}
        async with (
            serving.as_("eve", tenant="globex", roles=["policy_admin"]) as foreign,
            serving.as_("bob") as bob,
        ):
            hidden = await foreign.get("/regate/explain", params={"file": file, **asked})
            absent = await foreign.get("/regate/explain", params={"file": "file-none", **asked})
            unknown = await bob.get("/regate/explain", params={"file": file, **asked})

    assert (hidden.status_code, hidden.text) == (400, absent.text.replace("file-none", file))
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_url")


async def test_explanation_needs_exactly_one_identifier(serve: Serve) -> None:
    async with serve() as serving, serving.as_("carol", roles=["policy_admin"]) as admin:
        answers = [
            await admin.get("/regate/explain", params=params)
            for params in ({}, {"decision": "d", "response": "r"})
        ]

    assert [answer.status_code for answer in answers] == [400, 400]


async def test_shadowed_candidate_changes_no_answer_and_its_flips_are_told(
    serve: Serve, tmp_path: Path
) -> None:
    candidate = copied_policies(tmp_path / "candidate")
    edit(
        candidate,
        "store/store.rego",
        {'input.action in {"store.list", "store.read", "store.search"}': 'input.action == "store.list"'},
    )
    flipped = 'regate_shadow_decisions_total{outcome="would_deny",rule="regate/store/allow"}'
    async with serve(shadow=candidate) as serving, serving.as_("alice") as alice:
        made = (await alice.post("/vector_stores", json={"name": "hers"})).json()
        answer = await alice.get(f"/vector_stores/{made['id']}")
        async with asyncio.timeout(120):
            while flipped not in (await alice.get(f"{serving.url}/metrics")).text:
                pass

    report = as_document(
        read_report((serving.settings.data_dir / "shadow" / "flips.jsonl").read_bytes().splitlines())
    )
    (rule,) = [rule for rule in report["rules"] if rule["rule"] == "regate/store/allow"]
    assert (answer.status_code, rule["would_deny"] >= 1, rule["would_allow"]) == (200, True, 0)


async def test_candidate_that_does_not_compile_keeps_nobody_from_serving(
    serve: Serve, tmp_path: Path
) -> None:
    candidate = copied_policies(tmp_path / "candidate")
    (candidate / "broken.rego").write_text("package regate.broken\n\nallow if {\n", encoding="utf-8")
    async with serve(shadow=candidate) as serving, serving.as_("alice") as alice:
        answer = await alice.get("/vector_stores")

    assert answer.status_code == 200
