"""`regate eval` as a process before a running gateway: what it measures, that it leaves nothing behind, and
how it exits.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from tests.deployments import only_on
from tests.e2e.conftest import ScriptedUpstream, World, started
from tests.e2e.evaluating import Evaluation
from tests.e2e.test_retrieval import ACME, GLOBEX, ingest, shared_store
from tests.patience import PATIENT_SECONDS, until

from regate_gateway.config.settings import Settings

pytestmark = only_on("embedded")

QUESTIONS = [
    {"tenant": "acme", "query": "How many days of annual leave at Acme?", "files": ["leave.md"]},
    {"tenant": "globex", "query": "How long is the leave?", "facts": [{"file": "holidays.md"}]},
]


@pytest.fixture
def evaluation(world: World, tmp_path: Path) -> Evaluation:
    folder = tmp_path / "evaluation"
    folder.mkdir()
    return Evaluation(
        folder,
        world.url,
        acme=world.token("alice", "acme", roles=["store_admin"]),
        globex=world.token("gita", "globex"),
    )


async def left(world: World) -> int:
    """How many stores and files there are of anybody who evaluates."""
    found: set[str] = set()
    for client in (world.client("alice", "acme"), world.client("gita", "globex")):
        found |= {one.id async for one in client.vector_stores.list()}
        found |= {one.id async for one in client.files.list()}
    return len(found)


async def test_canaries_measure_a_deployment_and_leave_nothing(world: World, evaluation: Evaluation) -> None:
    code, out, err = await evaluation.run(
        *("--canaries", "10", "--changes", "2", "--mode", "hybrid", "--mode", "keyword", "--out", "report"),
        "--json",
    )

    found = json.loads(out)
    assert (code, found["ok"], found["version"]) == (0, True, 1), err
    assert json.loads((evaluation.folder / "report/report.json").read_text()) == found
    everybody = [one for one in found["quality"] if one["tenant"] is None]
    assert [(one["mode"], one["questions"], one["recall_1"], one["mrr"]) for one in everybody] == [
        ("hybrid", 20, 1.0, 1.0),
        ("keyword", 20, 1.0, 1.0),
    ]
    others = next(one for one in found["probes"] if one["kind"] == "others")
    assert (others["probes"], others["leaks"], others["unattributed"]) == (40, 0, 0)
    assert others["hits"] > 0  # a search in mode hybrid always finds something, of one's own
    assert others["upper_bound"] == pytest.approx(1 - 0.05 ** (1 / 40))
    filtered = [
        (one["percent"], one["permitted"], one["asked"], one["breaches"]) for one in found["filtered"]
    ]
    assert filtered == [(100.0, 20, 20, 0)] * 2 + [(10.0, 2, 2, 0)] * 2
    assert sum("was not measured: it takes" in note for note in found["notes"]) == 3
    assert [(one["change"], one["changes"], one["late"]) for one in found["revoked"]] == [
        ("attributes", 4, 0),
        ("removal", 4, 0),
    ]
    assert {one["mode"] for one in found["latency"]} == {"hybrid", "keyword"}
    assert {one["kind"] for one in found["decisions"]} >= {"plan", "batch"}
    assert all(one["p95_ms"] >= one["p50_ms"] > 0 for one in found["decisions"])
    assert "regate: plants 10 canaries of acme" in err
    assert await left(world) == 0


async def test_page_shows_plots_and_loads_nothing(evaluation: Evaluation) -> None:
    code, out, _ = await evaluation.run("--canaries", "2", "--changes", "1", "--out", "report")

    page = (evaluation.folder / "report/report.html").read_text()
    assert (code, out) == (0, (evaluation.folder / "report/report.md").read_text())
    assert "**No leak in" in out
    drawn = [ElementTree.fromstring(one) for one in re.findall(r"<svg .*?</svg>", page, re.DOTALL)]
    assert [len(plot.findall("rect")) for plot in drawn][:2] == [5, 1]
    assert len(drawn) == 5
    assert not any(word in page.lower() for word in ("<script", "src=", "href=", "@import", "url("))


async def test_questions_are_asked_of_the_store_that_is_there(world: World, evaluation: Evaluation) -> None:
    store = await shared_store(world)
    await ingest(world.client("alice", "acme"), store, "leave.md", ACME)
    await ingest(world.client("gita", "globex"), store, "holidays.md", GLOBEX)
    asked = evaluation.write("questions.jsonl", "\n".join(json.dumps(one) for one in QUESTIONS))
    deployment = {
        "url": f"{world.url}/v1",
        "store": store,
        "tenants": {
            "acme": {"token_env": "ACME_TOKEN"},
            "globex": {"token_file": evaluation.write("globex.token", world.token("gita", "globex"))},
        },
    }
    (evaluation.folder / "globex.token").chmod(0o600)
    file = evaluation.write("deployment.yaml", yaml.safe_dump(deployment))

    process = await evaluation.start(file, "--questions", asked, "--json")
    out, err = await process.communicate()

    found = json.loads(out)
    assert process.returncode == 0, err
    assert [(one["tenant"], one["mode"], one["recall_1"]) for one in found["quality"]] == [
        (None, "default", 1.0),
        ("acme", "default", 1.0),
        ("globex", "default", 1.0),
    ]
    assert [(one["kind"], one["probes"], one["leaks"], one["unattributed"]) for one in found["probes"]] == [
        ("others", 2, 0, 0),
        ("own", 2, 0, 0),
    ]
    assert any("they take canaries" in note for note in found["notes"])
    assert await left(world) == 3  # the store and two files, as before


async def test_what_is_worse_than_before_exits_1(evaluation: Evaluation) -> None:
    shape = ("--canaries", "2", "--changes", "1", "--json")
    _, out, _ = await evaluation.run(*shape)
    before = json.loads(out)
    same = evaluation.write("same.json", out)
    before["quality"][0]["recall_1"] = 1.5
    better = evaluation.write("better.json", json.dumps(before))

    good = await evaluation.run(*shape, "--baseline", same)
    worse = await evaluation.run(*shape, "--baseline", better)

    assert (good[0], json.loads(good[1])["regressions"]) == (0, [])
    assert (worse[0], json.loads(worse[1])["regressions"]) == (
        1,
        ["recall_1 of all tenants, default is 1.000, and was 1.500"],
    )


async def test_nothing_is_good_where_no_mode_is_served_and_a_mode_is_measured_once(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path, tmp_path: Path
) -> None:
    settings = configure(vector={"default": "main", "stores": {"main": {"kind": "chroma"}}})
    async with started(settings, upstream, policies) as world:
        folder = tmp_path / "evaluation"
        folder.mkdir()
        evaluation = Evaluation(folder, world.url, acme=world.token("alice", "acme"))
        nothing = await evaluation.run("--canaries", "1", "--mode", "keyword")
        twice = await evaluation.run("--canaries", "1", "--mode=vector", "--mode=vector", "--json")

        assert (nothing[0], nothing[1]) == (1, "")
        assert "nothing was measured. Mode keyword was not measured" in nothing[2]
        assert [one["tenant"] for one in json.loads(twice[1])["quality"]] == [None, "acme"]
        assert await left(world) == 0


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
async def test_nothing_is_left_when_it_is_interrupted(
    world: World, evaluation: Evaluation, sent: signal.Signals
) -> None:
    process = await evaluation.start(*evaluation.tenants, "--canaries", "200")
    alice = world.client("alice", "acme")

    async def has_files() -> bool:
        return len((await alice.files.list()).data) > 5

    await until(has_files)
    process.send_signal(sent)
    _, err = await asyncio.wait_for(process.communicate(), PATIENT_SECONDS)

    assert process.returncode == 1, err
    assert b"interrupted" in err
    assert await left(world) == 0
