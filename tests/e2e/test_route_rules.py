"""A rule of one's own on routes, as docs/policies.md has it: one team's model is absent for everybody
else, wherever it could be used.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.deployments import only_on
from tests.e2e.conftest import World

DOCUMENT = Path(__file__).parents[2] / "docs" / "policies.md"

pytestmark = only_on("embedded")


@pytest.fixture
def policies(policies: Path) -> Path:
    """The shipped policies with the documented rule."""
    (rule,) = re.findall(
        r"```rego\n(package regate\.custom\.route\n.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL
    )
    folder = policies / "custom" / "route"
    folder.mkdir(parents=True)
    (folder / "route.rego").write_text(rule)
    return policies


ASKED = [
    ("/responses", {"input": "Hi"}),
    ("/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
    ("/completions", {"prompt": "Hi"}),
    ("/embeddings", {"input": "Hi"}),
]


async def test_model_of_one_team_is_absent_for_all_others(world: World) -> None:
    async with world.http("rita", teams=["rnd"]) as rita, world.http("bob", teams=["hr"]) as bob:
        listed = [
            sorted(model["id"] for model in (await http.get("/models")).json()["data"])
            for http in (rita, bob)
        ]
        refused = [
            (await bob.post(path, json={"model": "large", **body})).json()["error"]["code"]
            for path, body in ASKED
        ]
        answered = (await rita.post("/responses", json={"model": "large", "input": "Hi"})).json()["status"]
        other = (await bob.post("/responses", json={"model": "small", "input": "Hi"})).json()["status"]

    assert listed == [["large", "small"], ["small"]]
    assert (refused, answered, other) == (["model_not_found"] * len(ASKED), "completed", "completed")
    assert [request["model"] for request in world.upstream.requests] == ["large", "small"]
