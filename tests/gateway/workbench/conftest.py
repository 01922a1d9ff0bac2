"""Copies of the shipped policies to break, and OPA's own command line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from regate_adapters.opa.install import require_opa
from regate_gateway.workbench.directory import shipped_policies

Write = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def opa() -> Path:
    return require_opa()


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    """A copy of the shipped policies, without their tests."""
    return Path(shutil.copytree(shipped_policies(), tmp_path / "rego"))


@pytest.fixture
def write(policies: Path) -> Write:
    """Writes a file of the copy; returns the copy."""

    def written(name: str, text: str) -> Path:
        path = policies / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return policies

    return written
