"""The OpenAPI document is complete, and what is served is what it says: Schemathesis makes the
requests, good ones and bad ones.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.generation import GenerationMode
from tests.deployments import only_on
from tests.e2e.conftest import World

from regate_gateway.app import IDEMPOTENT, ROUTES
from regate_gateway.openapi.document import build

EXAMPLES = 8
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


def test_every_route_is_described_and_nothing_else() -> None:
    described = {
        (method.upper(), path) for path, operations in build()["paths"].items() for method in operations
    }

    assert described == {(method, re.sub(r":\w+}", "}", path)) for method, path, _ in ROUTES}


def test_idempotency_is_described_where_it_is() -> None:
    paths = build()["paths"]
    described = {
        path
        for path, operations in paths.items()
        if any(
            one.get("name") == "Idempotency-Key" for one in operations.get("post", {}).get("parameters", [])
        )
    }

    assert described == {path for path in IDEMPOTENT if path in paths}


def test_every_reference_leads_somewhere() -> None:
    document = build()
    text = json.dumps(document)
    wanted = set(re.findall(r'"#/components/(\w+)/(\w+)"', text))

    assert wanted
    assert {(kind, name) for kind, name in wanted if name not in document["components"][kind]} == set()


@only_on("embedded")
async def test_document_is_served_to_anybody(world: World) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{world.url}/openapi.json")

    assert (answer.status_code, answer.json()["openapi"]) == (200, "3.1.0")


async def test_page_for_browsers_shows_every_operation_and_takes_nothing_from_elsewhere(world: World) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{world.url}/")

    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert [path for path in build()["paths"] if f" {path}<" not in answer.text] == []
    assert re.findall(r"<script|https?://|//[a-z]", answer.text) == []
    assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_answers_are_as_described_whatever_is_asked(world: World) -> None:
    headers = {"Authorization": f"Bearer {world.token('alice', 'acme')}"}
    failures: list[str] = []
    asked: set[str] = set()
    document = build()
    await asyncio.to_thread(_ask_everything, world.url, headers, document, failures, asked)

    assert failures == []
    assert len(asked) == sum(len(operations) for operations in document["paths"].values())


def _ask_everything(
    url: str, headers: dict[str, str], document: dict[str, Any], failures: list[str], asked: set[str]
) -> None:
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @seed(1)
            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                response = case.call(base_url=url, headers=headers, timeout=120)
                asked.add(f"{case.operation.method} {case.operation.path}")
                try:
                    case.validate_response(response, checks=CHECKS)
                except Exception as error:
                    failures.append(
                        f"{case.operation.method} {case.operation.path}: {response.status_code} "
                        f"{str(error)[:500]}"
                    )

            ask()
