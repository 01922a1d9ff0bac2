"""Alert rules and the dashboard ask for metrics that there are, by labels that they have, in PromQL that
Prometheus understands. The table of alerts in the documentation is made of the rules.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import promql_parser
import pytest
import yaml

from regate_gateway.composition.outside.tracing import make_tracer
from regate_gateway.composition.wiring import open_services
from regate_gateway.config.settings import Settings
from regate_gateway.telemetry.requests import RequestMetrics
from regate_orchestrator.metrics import Counter, Histogram, Metrics

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "deploy/prometheus/alerts.yaml"
DASHBOARD: Final = ROOT / "deploy/grafana/regate.json"
OF_A_TARGET: Final = {"instance", "job"}
"""Labels that Prometheus adds to whatever it scrapes."""
OF_A_PROCESS: Final = {
    *("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds"),
}


def rules() -> list[dict[str, Any]]:
    found = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    assert len(found) > 15
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def questions() -> dict[str, str]:
    """Every expression by where it stands, as Grafana sends it."""
    asked = {rule["alert"]: rule["expr"] for rule in rules()}
    for panel in panels():
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "5m").replace("$__range", "1h")
            asked[f"{panel['title']} {target['refId']}"] = expression.replace("$instance", ".*")
    return asked


Series = tuple[str, frozenset[str], tuple[tuple[str, str], ...]]
"""What an expression selects: the name, the labels that it names, and the values that it wants."""


def selected(expression: str) -> list[Series]:
    found: list[Series] = []

    def look(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            matchers = node.matchers.matchers
            wanted = tuple((one.name, one.value) for one in matchers if one.op == promql_parser.MatchOp.Equal)
            found.append((node.name or "", frozenset(one.name for one in matchers), wanted))
        return True

    promql_parser.walk(promql_parser.parse(expression), look)
    assert found, expression
    return found


async def defined(tmp_path: Path) -> Metrics:
    """All metrics of a gateway."""
    metrics = Metrics()
    RequestMetrics(metrics)
    make_tracer(None, metrics)
    settings = Settings.model_validate(
        {
            "data_dir": tmp_path,
            "vector": {"stores": {"main": {"kind": "memory"}}},
            "redis": {"url": "redis://127.0.0.1:1/0"},  # nobody answers there, and the metrics are there
        }
    )
    async with AsyncExitStack() as stack:
        await open_services(stack, settings, metrics)
    return metrics


def shown(metrics: Metrics) -> Iterator[tuple[str, set[str]]]:
    """Yield the name of each series as it is scraped, with its labels."""
    for name, metric in metrics.all.items():
        match metric.numbers:
            case Histogram():
                yield f"{name}_bucket", {*metric.labels, "le"}
                yield from ((f"{name}{end}", set(metric.labels)) for end in ("_sum", "_count"))
            case Counter():
                yield f"{name}_total", set(metric.labels)
            case reading:
                yield name + ("_total" if reading.kind == "counter" else ""), set(metric.labels)


def values(metrics: Metrics) -> dict[tuple[str, str], set[str]]:
    """The values that a label is known to have, of those that are there from the beginning."""
    found: dict[tuple[str, str], set[str]] = {}
    for name, metric in metrics.all.items():
        rows = (
            metric.numbers.values if isinstance(metric.numbers, Counter | Histogram) else metric.numbers.now()
        )
        for row in rows:
            for label, value in zip(metric.labels, row, strict=True):
                found.setdefault((re.sub(r"_(total|bucket|sum|count)$", "", name), label), set()).add(value)
    return found


async def test_alerts_and_dashboard_ask_for_what_there_is(tmp_path: Path) -> None:
    metrics = await defined(tmp_path)
    there: Mapping[str, set[str]] = dict(shown(metrics)) | {name: set() for name in OF_A_PROCESS}
    known = values(metrics)
    wrong = []
    for place, expression in questions().items():
        series = selected(expression)
        labels = set().union(*(there.get(name, set()) for name, _, _ in series)) | OF_A_TARGET
        for name, matched, wanted in series:
            if name not in there:
                wrong.append((place, name))
            elif not matched <= there[name] | OF_A_TARGET:
                wrong.append((place, name, matched - there[name]))
            of = re.sub(r"_(total|bucket|sum|count)$", "", name)
            wrong += [
                (place, label, value)
                for label, value in wanted
                if value not in known.get((of, label), {value})
            ]
        grouped = re.findall(r"\bby \(([^)]*)\)", expression)
        by = {label.strip() for group in grouped for label in group.split(",")}
        wrong += [(place, by - labels)] if by - labels else []

    assert wrong == []


@pytest.mark.parametrize(
    "expression", ["sum(rate(regate_x[5m])", "rate(regate_x)", "regate_x{a=}", "by (a) x"]
)
def test_what_is_no_promql_is_noticed(expression: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        promql_parser.parse(expression)


def test_rules_say_what_is_wrong_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    labels = {
        label for rule in rules() for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])
    }

    assert len(set(names)) == len(names)
    assert {rule["labels"]["severity"] for rule in rules()} <= {"critical", "warning", "info"}
    assert all(set(rule["annotations"]) == {"summary", "runbook"} for rule in rules())
    assert labels <= {"destination", "guard", "effect", "cause", "upstream", "pool"}


def test_panels_have_places_of_their_own() -> None:
    everything = json.loads(DASHBOARD.read_text())["panels"]
    places = [(one["gridPos"]["x"], one["gridPos"]["y"]) for one in everything]

    assert len({one["id"] for one in everything}) == len(everything) == len(set(places))
    assert all(one["gridPos"]["x"] + one["gridPos"]["w"] <= 24 for one in everything)


def table() -> str:
    """The table of alerts as the documentation has it."""

    def row(rule: Mapping[str, Any]) -> str:
        lasts = f" for {rule['for']}" if "for" in rule else ""
        expression = rule["expr"].replace("|", r"\|")
        told = re.sub(r"\{\{ \$labels\.(\w+) \}\}", r"*\1*", rule["annotations"]["summary"])
        todo = re.sub(r"docs/(([\w-]+)\.md)", r"[\2](\1)", rule["annotations"]["runbook"])
        return f"| `{rule['alert']}` ({rule['labels']['severity']}) | `{expression}`{lasts} | {told} {todo} |"

    return "\n".join(
        ["| alert | when | what is wrong, and what to do |", "| --- | --- | --- |", *map(row, rules())]
    )


def test_table_of_alerts_is_that_of_the_rules() -> None:
    assert table() in (ROOT / "docs/metrics.md").read_text(encoding="utf-8"), table()
