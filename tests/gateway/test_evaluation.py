"""`regate eval` short of a gateway: the figures, wrong usage, and files that hold no questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from regate_gateway.cli.main import main
from regate_gateway.evaluation.baseline import regressions
from regate_gateway.evaluation.decisions import decided, quantile
from regate_gateway.evaluation.figures import Latency, Report
from regate_gateway.evaluation.measures import ndcg, percentile, recall, reciprocal_rank, upper_bound
from regate_gateway.evaluation.showing.markdown import markdown
from regate_gateway.evaluation.showing.page import page

NOBODY = "http://127.0.0.1:9/v1"


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(
        main, ["eval", *arguments], env={"REGATE_URL": NOBODY, "A": "token"} | environment
    )


def test_ranking_is_measured_as_its_sources_say() -> None:
    found, wanted = ["x", "a", "a", "b", "y"], {"a", "b"}

    assert [recall(found, wanted, cutoff) for cutoff in (1, 2, 4)] == [0, 0.5, 1]
    assert reciprocal_rank(found, wanted) == 0.5
    assert reciprocal_rank([], wanted) == 0
    assert ndcg(["a", "b"], wanted) == 1
    assert ndcg(found, wanted) == pytest.approx((0.63093 + 0.43068) / (1 + 0.63093), abs=1e-4)
    assert ndcg(["x"] * 10 + ["a"], wanted) == 0


@pytest.mark.parametrize(
    ("events", "trials", "bound"),
    [(0, 0, 1.0), (0, 1, 0.95), (0, 100, 0.029513), (1, 10, 0.394163), (5, 1000, 0.010483), (3, 3, 1.0)],
)
def test_bound_is_that_of_clopper_and_pearson(events: int, trials: int, bound: float) -> None:
    assert upper_bound(events, trials) == pytest.approx(bound, abs=1e-5)


def test_percentiles_are_of_the_nearest_rank_and_of_buckets() -> None:
    assert [percentile([4, 1, 3, 2], share) for share in (0.5, 0.95)] == [2, 4]
    assert percentile([], 0.5) == 0
    assert quantile([(1, 10), (2, 20), (float("inf"), 20)], 0.75) == 1.5
    assert quantile([(1, 1), (float("inf"), 10)], 0.95) == 1


def test_decisions_are_those_between_two_scrapes() -> None:
    name = "regate_decision_seconds"
    before = {(f"{name}_count", "ask", ""): 5.0, (f"{name}_sum", "ask", ""): 1.0}
    after = {
        (f"{name}_count", "ask", ""): 15.0,
        (f"{name}_sum", "ask", ""): 1.1,
        (f"{name}_bucket", "ask", "0.01"): 10.0,
        (f"{name}_bucket", "ask", "+Inf"): 10.0,
        (f"{name}_count", "plan", ""): 0.0,
    }

    (found,) = decided(before, after, searches=5)

    assert (found.kind, found.exchanges, found.per_search) == ("ask", 10, 2)
    assert (found.mean_ms, found.p50_ms) == (pytest.approx(10), pytest.approx(5))


def report(**parts: object) -> Report:
    return Report(NOBODY, "2026-11-30", "0.1.0", ["acme"], "q", 0, **parts)  # type: ignore[arg-type]


def test_slower_searches_are_a_regression_where_that_is_asked_for() -> None:
    then = report(latency=[Latency("vector", 9, 1.0, 10.0)]).as_json()
    now = report(latency=[Latency("vector", 9, 1.0, 21.0)])

    assert regressions(now, then, tolerance=0, slowdown=None) == []
    assert regressions(now, then, tolerance=0, slowdown=2) == [
        "p95 of searches in vector is 21.0 ms, and was 10.0 ms"
    ]


def test_names_of_others_stay_text() -> None:
    named = report(notes=["<script>alert(1)</script> | *x* ![x](//tracker.example/x.png)"])

    assert "<script>" not in page(named)
    assert "&lt;script>alert(1)&lt;/script> \\| *x* !\\[x](//tracker.example/x.png)" in markdown(
        named
    )  # neither a tag, nor a cell, nor a picture that whoever reads it loads


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--tenant", "acme"),
        ("--tenant", "acme=ABSENT"),
        ("--tenant", "acme=A", "--url", "ftp://x"),
        ("--tenant", "acme=A", "--canaries", "0"),
        ("--tenant", "acme=A", "--mode", "guess"),
        ("--tenant", "acme=A", "--baseline", "absent.json"),
        ("--tenant", "acme=A", "--out", "/dev/null/report"),
        ("absent.yaml",),
    ],
)
def test_wrong_usage_exits_2(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "q.jsonl:1"),
        ("", "holds no question"),
        ('{"tenant": "acme", "files": ["a"]}', "a question is"),
        ('{"tenant": "other", "query": "x", "files": ["a"]}', "no token for the tenant 'other'"),
        ('{"tenant": "acme", "query": "x"}', "must name the files"),
        ('{"tenant": "acme", "query": "x", "facts": ["a"]}', "facts is a list of objects"),
        ('{"tenant": "acme", "query": "x", "facts": [{"file": 1}]}', "must name the files"),
    ],
)
def test_a_file_that_holds_no_questions_exits_2_and_says_where(line: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(line)

    done = run("--tenant", "acme=A", "--store", "vs_1", "--questions", str(file))

    assert (done.exit_code, said in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("beginning", ["\ufeff", "\r\n"])
def test_a_file_that_an_editor_marked_or_ended_in_its_own_way_holds_questions(
    beginning: str, tmp_path: Path
) -> None:
    file = tmp_path / "q.jsonl"
    question = '{"tenant": "acme", "query": "x", "files": ["a"]}\r\n'
    file.write_bytes((beginning + question + question).encode())

    done = run("--tenant", "acme=A", "--store", "vs_1", "--questions", str(file))

    assert (done.exit_code, "no gateway answers" in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize(
    ("part", "value"),
    [("quality", None), ("quality", [None]), ("filtered", 3), ("latency", [{"mode": "vector"}])],
)
def test_a_baseline_that_is_no_whole_report_exits_2_before_anything_is_asked(
    part: str, value: object, tmp_path: Path
) -> None:
    file = tmp_path / "report.json"
    file.write_text(json.dumps(report().as_json() | {part: value}))

    done = run("--tenant", "acme=A", "--baseline", str(file))

    assert (done.exit_code, f"is no whole report: {part}" in done.stderr) == (2, True), done.stderr


def test_questions_without_a_store_and_other_files_exit_2(tmp_path: Path) -> None:
    asked, other = tmp_path / "q.jsonl", tmp_path / "other.json"
    asked.write_text('{"tenant": "acme", "query": "x", "files": ["a"]}')
    other.write_text(json.dumps({"version": 0}))

    without = run("--tenant", "acme=A", "--questions", str(asked))
    baseline = run("--tenant", "acme=A", "--baseline", str(other))
    deployment = run(str(other))
    other.write_text(json.dumps({"tenants": ["acme"]}))
    listed = run(str(other), "--tenant", "acme=A")
    several = run("--tenant", "acme=A", A="token\nof another")

    assert (without.exit_code, "which store" in without.stderr) == (2, True)
    assert (baseline.exit_code, "is no report of this version" in baseline.stderr) == (2, True)
    assert (deployment.exit_code, "version: Extra inputs" in deployment.stderr) == (2, True)
    assert (listed.exit_code, "tenants: Input should be" in listed.stderr) == (2, True)
    assert (several.exit_code, "in one line" in several.stderr) == (2, True)


def test_nobody_who_answers_exits_1() -> None:
    done = run("--tenant", "acme=A")
    assert (done.exit_code, "no gateway answers" in done.stderr) == (1, True)
