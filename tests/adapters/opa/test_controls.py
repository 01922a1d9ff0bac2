"""Controls that a policy asks for and the gateway does not have: refused where policies are loaded, at
the rule or the key that asks.
"""

from __future__ import annotations

import ast
import shutil
from collections.abc import Collection
from hashlib import sha256
from pathlib import Path
from typing import Final

import pytest
from tests.adapters.opa.policies import write_policies

import regate_adapters
import regate_gateway
import regate_orchestrator
from regate_adapters.opa.acceptance.controls import RULES, SHIPPED_GUARDS, control_findings
from regate_adapters.opa.acceptance.findings import Finding
from regate_adapters.opa.acceptance.reading import parsed_by_command
from regate_adapters.opa.acceptance.syntax import Policies, modules_of
from regate_adapters.opa.policies.bundle import build_bundle
from regate_adapters.opa.policies.source import BrokenPolicy, read_source
from regate_orchestrator.authz.points import Point, asked_rules
from regate_orchestrator.ports import GUARD_STEPS

REGO: Final = Path(__file__).parents[3] / "rego"
GUARD: Final = 'package regate.guard\n\naction := "block"\n\ndeny_reasons contains "always"\n'


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    return Path(shutil.copytree(REGO, tmp_path / "rego"))


def refusal(directory: Path, tmp_path: Path, opa: Path, guarded: Collection[str] = ()) -> str:
    with pytest.raises(BrokenPolicy) as refused:
        build_bundle(read_source(directory), tmp_path / "bundle.tar.gz", opa=opa, guarded=guarded)
    return refused.value.message


# file -> its text, the line that asks, what is said
ASKING: dict[str, tuple[str, str, int, str]] = {
    "a guard by a custom rule": (
        "custom/guard/guard.rego", "package regate.custom.guard\n\nblock if input.step == `input`\n", 3,
        "regate.custom.guard.block asks in vain at input, chunk, tool_arguments, tool_result, output",
    ),
    "redaction of chunks": ("chunk/redact.rego", "package regate.chunk\n\nredact := [`x`]\n", 3,
        "regate.chunk.redact asks in vain"),
    "a guard of the team's own": ("guard/guard.rego", GUARD, 3, "regate.guard.action asks in vain at input"),
}  # fmt: skip


@pytest.mark.parametrize("name", ASKING)
def test_a_control_that_is_not_there_is_refused_at_its_line_with_what_to_do(
    name: str, shipped: Path, tmp_path: Path, opa: Path
) -> None:
    file, text, line, says = ASKING[name]
    write_policies(shipped, {file: text})

    said = refusal(shipped, tmp_path, opa).splitlines()[0]

    assert said.startswith(f"{file}:{line}: no-such-control: {says}")
    assert "; " in said  # and then what to do instead


@pytest.mark.parametrize("step", GUARD_STEPS)
@pytest.mark.parametrize(
    "limits",
    ['{"scores": {"toxic": {"block": 0.9}}, "labels": {}}', '{"scores": {}, "labels": {"pii": "redact"}}'],
)
def test_thresholds_at_a_step_without_a_guard_are_refused(
    step: str, limits: str, shipped: Path, tmp_path: Path, opa: Path
) -> None:
    data = (shipped / "data.json").read_text()
    (shipped / "data.json").write_text(
        data.replace(f'"{step}": {{"scores": {{}}, "labels": {{}}}}', f'"{step}": {limits}')
    )
    line = next(row for row, text in enumerate(data.splitlines(), start=1) if f'"{step}": {{"scores"' in text)
    kind = "scores" if "toxic" in limits else "labels"

    said = refusal(shipped, tmp_path, opa, guarded=set(GUARD_STEPS) - {step})
    build_bundle(read_source(shipped), tmp_path / "bundle.tar.gz", opa=opa, guarded={step})

    assert said.startswith(
        f"data.json:{line}: no-such-control: data.regate.guard_thresholds.{step}.{kind} asks in vain"
    )
    assert "guards.providers" in said


@pytest.mark.parametrize("name", [name for name in ASKING if "a guard" in name])
def test_a_rule_about_guards_is_served_where_there_is_one_at_every_step(
    name: str, shipped: Path, opa: Path
) -> None:
    file, text, line, _ = ASKING[name]
    texts = {
        path.relative_to(shipped).as_posix(): path.read_text()
        for path in shipped.rglob("*")
        if path.is_file()
    }

    assert found_in({**texts, file: text}, opa, guarded=GUARD_STEPS) == []
    (refused,) = found_in({**texts, file: text}, opa, guarded=set(GUARD_STEPS) - {"chunk"})
    assert (refused.row, "asks in vain at chunk: " in refused.message) == (line, True)


def found_in(texts: dict[str, str], opa: Path, guarded: Collection[str] = ()) -> list[Finding]:
    policies = Policies(
        modules_of(
            parsed_by_command(opa, {name: text for name, text in texts.items() if name.endswith(".rego")})
        )
    )
    files = {name: text.encode() for name, text in texts.items()}
    return list(control_findings(policies, files, guarded=guarded))


def test_what_asks_for_nothing_is_served(shipped: Path, opa: Path) -> None:
    texts = {
        path.relative_to(shipped).as_posix(): path.read_text()
        for path in shipped.rglob("*")
        if path.is_file()
    }
    tools = '{"mail": {"type": "mcp", "tenants": {}, "needs_approval": true, "deadline_s": 9}}'
    passing = 'package regate.guard\n\naction := "pass"\n'
    quiet = "package regate.custom.tool\n\napprove if input.tool.name == `mail`\n"

    assert found_in(texts, opa) == []
    assert (
        found_in(
            {
                **texts,
                "regate/tools/data.json": tools,
                "custom/tool/tool.rego": quiet,
                "guard/guard.rego": passing,
            },
            opa,
        )
        == []
    )


def test_the_shipped_guard_is_the_one_that_is_known() -> None:
    assert sha256((REGO / "guard" / "guard.rego").read_bytes()).hexdigest() in SHIPPED_GUARDS


def test_every_rule_of_the_contract_is_asked_or_is_known_not_to_be() -> None:
    """A rule that the contract demands and nobody asks is a control that is not there: it needs its
    line in `controls.py`.
    """
    packages = (regate_adapters, regate_gateway, regate_orchestrator)
    sources = [
        path
        for module in packages
        for path in Path(next(iter(module.__path__))).rglob("*.py")
        if path.name != "points.py"
    ]
    words = {
        node.value
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
    }
    asked = {rule for rule in asked_rules() if rule in words or rule.rpartition("/")[2] in words}
    asked |= {rule for point in Point for rule in (point.value, point.reasons_rule)}  # by `Enforcer.decide`

    assert set(asked_rules()) - asked <= {"regate/authn/deny_reasons"}
    assert {".".join(rule[1:]) for rule in RULES} == {
        "regate.chunk.redact", "regate.custom.chunk.redact"
    }  # fmt: skip
