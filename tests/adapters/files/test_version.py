"""What is read of a file has a version that is of all that decides it."""

from __future__ import annotations

import ast
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from regate_adapters.files.readers import version
from regate_adapters.files.readers.extract import WorkerExtractor, WorkerLimits


def imported(path: Path) -> set[str]:
    """The packages that a module imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module if node.module.startswith("regate") else node.module.partition(".")[0])
    return found


def test_all_libraries_that_read_and_split_are_in_it() -> None:
    packages = {name for path in version.sources() for name in imported(path)}
    foreign = {name for name in packages - sys.stdlib_module_names if not name.startswith("regate")}
    distributions = packages_distributions()

    assert {one for name in foreign for one in distributions[name]} == set(version.LIBRARIES)


def test_all_modules_of_ours_that_read_and_split_are_in_it() -> None:
    folder = Path(version.__file__).parents[1]
    modules = {
        "regate_adapters.files." + ".".join(path.relative_to(folder).with_suffix("").parts)
        for path in version.sources()
    }
    used = {name for path in version.sources() for name in imported(path) if name.startswith("regate")}

    # The server that forks readers decides nothing of what they read.
    assert used - modules == {"regate_adapters.files.readers.fork_server"}


def test_it_changes_with_code_libraries_and_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = version.reading_version()
    assert version.reading_version.__wrapped__() == before
    module = tmp_path / "text.py"
    module.write_text("A = 1\n")
    monkeypatch.setattr(version, "_FOLDER", tmp_path)
    monkeypatch.setattr(version, "sources", lambda: [module])
    one = version.reading_version.__wrapped__()
    module.write_text("A = 2\n")
    two = version.reading_version.__wrapped__()
    monkeypatch.setattr(version, "LIBRARIES", version.LIBRARIES[:-1])
    three = version.reading_version.__wrapped__()

    assert len({before, one, two, three}) == 4
    assert WorkerExtractor().version != WorkerExtractor(limits=WorkerLimits(cpu_s=1)).version
