"""Documentation is a gate: what the code says of itself and what the documents say must agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from regate_gateway.app import ROUTES
from regate_gateway.policy.entrypoints import asked_rules
from regate_orchestrator.responses.diagram import diagram

ROOT = Path(__file__).parents[1]


def test_every_test_that_the_threat_model_names_exists() -> None:
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", (ROOT / "docs/threat-model.md").read_text()))
    defined = {name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())}

    assert named
    assert named <= defined


@pytest.mark.parametrize("path", asked_rules())
def test_every_rule_that_is_asked_for_is_documented(path: str) -> None:
    package, _, rule = path.rpartition("/")
    rows = [line for line in (ROOT / "docs/decision-points.md").read_text().splitlines() if f"`{package.replace('/', '.')}`" in line]

    assert any(f"`{rule}`" in row for row in rows)


def test_every_route_is_documented() -> None:
    text = (ROOT / "docs/api.md").read_text()

    assert [f"{method} {path}" for method, path, _ in ROUTES if f"`{method} {path}`" not in text] == []


def test_every_metric_that_alerts_are_on_is_documented() -> None:
    named = set(re.findall(r"\bregate_[a-z_]+", (ROOT / "deploy/alerts.yaml").read_text()))
    text = (ROOT / "docs/operations.md").read_text()

    assert named
    assert [name for name in sorted(named) if f"| `{name}` |" not in text] == []


def test_diagram_of_the_machine_is_drawn_from_its_table() -> None:
    assert f"```mermaid\n{diagram()}\n```" in (ROOT / "docs/responses.md").read_text()


def test_no_file_names_a_path_of_a_machine() -> None:
    files = [path for folder in ("orchestrator", "adapters", "gateway", "rego", "docs", "bench") for path in (ROOT / folder).rglob("*")]
    texts = [path for path in files if path.suffix in {".py", ".rego", ".md", ".json", ".toml"}]
    assert texts

    assert [path for path in texts if re.search(r"/root/|/work/|/home/[a-z]", path.read_text())] == []
