"""The example rules of docs/tool-rules.md, exactly as printed, laid over the shipped policies."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[3]
STEP: Final = re.compile(r"^\d\. `([^`]+)`:\n\n```rego\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tools")
    steps = dict(STEP.findall((ROOT / "docs" / "tool-rules.md").read_text(encoding="utf-8")))
    assert list(steps) == ["overlay/custom/tool/tool.rego", "tests/custom/tool/tool_test.rego"]
    for name, text in steps.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text, encoding="utf-8")
    shutil.copytree(ROOT / "rego", folder / "policy")
    shutil.copytree(folder / "overlay", folder / "policy", dirs_exist_ok=True)
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "--strict", "--schema", "policy/schemas", "policy"),
        ("test", "policy", "tests", "--ignore", "schemas", "--fail-on-empty"),
        ("fmt", "--fail", "--list", "overlay", "tests"),
    ],
)
def test_examples_are_right(written: Path, opa: Path, arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [opa, *arguments], cwd=written, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_examples_are_accepted(written: Path, opa: Path, tmp_path: Path) -> None:
    from regate_adapters.opa.policies.bundle import build_bundle
    from regate_adapters.opa.policies.source import read_source

    bundle = tmp_path / "bundle.tar.gz"
    build_bundle(read_source(written / "policy"), bundle, opa=opa)
    with tarfile.open(bundle) as held:
        names = {name.lstrip("/") for name in held.getnames()}
    assert "custom/tool/tool.rego" in names
