"""The registry of vector engines: what every kind that is registered must have, in code, tests and docs."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
from tests.adapters.vector.conftest import SCHEMA

from regate_adapters.vector.kind import Configured, EmbeddedSettings, EngineKind
from regate_adapters.vector.registry import KINDS, read_settings
from regate_gateway.config.loading import reference
from regate_gateway.workbench.check.renderers import renderers_for
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.filters.expression import Compare, Matching

ROOT: Final = Path(__file__).parents[3]
ALL: Final = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
SERVERS: Final = {"postgres": "postgresql://h/d"}
CLIENTS: Final = "import sys, regate_gateway.config.loading; print(*sys.modules)"


def folder_of(kind: EngineKind[Any]) -> Path:
    return Path(sys.modules[type(kind).__module__].__file__ or "").parent


def test_there_are_kinds() -> None:
    assert {"chroma", "chroma_server", "pgvector", "memory"} <= set(KINDS)


@ALL
def test_kind_is_a_folder_with_settings_and_a_store(kind: EngineKind[Any]) -> None:
    folder = folder_of(kind)

    assert folder.parent.name == "vector"
    assert kind.settings.__module__ == f"regate_adapters.vector.{folder.name}.settings"
    assert (folder / "store.py").is_file() or (folder / "engine.py").is_file()


@ALL
def test_kind_with_a_query_language_has_golden_filters(kind: EngineKind[Any]) -> None:
    folder = folder_of(kind)
    evaluates = {"memory", "local", "faiss", "sqlite_vec"}  # which evaluate the algebra themselves
    renders = folder.name not in evaluates

    assert (folder / "filter.py").is_file() == renders
    assert (Path(__file__).parent / f"test_{folder.name}_filter.py").is_file() == renders


def test_folder_without_a_kind_is_none() -> None:
    vector = ROOT / "adapters/regate_adapters/vector"
    folders = {path.parent.name for path in vector.glob("*/__init__.py")}

    assert folders == {folder_of(kind).name for kind in KINDS.values()} | {
        "marked",
        "partition",
        "worded",
    }  # which several share


@ALL
def test_kind_is_in_the_documentation(kind: EngineKind[Any]) -> None:
    table = (
        (ROOT / "docs/vector-engines.md").read_text().partition("\n## The engines")[2].partition("\n## ")[0]
    )
    (row,) = [line for line in table.splitlines() if line.startswith(f"| `{kind.name}` |")]
    own = set(kind.settings.model_fields) - {"kind"}

    assert kind.extra is None or f"`regate[{kind.extra.name}]`" in row
    assert {f"vector.stores.<name>.{name}" for name in own} <= {entry.path for entry in reference()}


@ALL
def test_client_library_is_an_optional_dependency(kind: EngineKind[Any]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    assert kind.extra is None or any(
        dependency.replace("-", "_").startswith(kind.extra.module) for dependency in extras[kind.extra.name]
    )


@ALL
def test_setting_that_names_a_variable_ends_so(kind: EngineKind[Any]) -> None:
    names = {name for name, field in kind.settings.model_fields.items() if "A-Za-z_" in repr(field.metadata)}

    assert {name for name in names if not name.endswith("_env")} == set()


@ALL
def test_kind_is_tried_by_the_check_of_policies(kind: EngineKind[Any]) -> None:
    plan = Matching(Compare("eq", ("tenant",), "acme"))

    assert renderers_for("chunk", SCHEMA)[kind.name](plan) is not None
    assert kind.name not in renderers_for("file", SCHEMA)


@ALL
def test_kind_is_proven_by_its_own_settings_or_by_another_kind_of_its_folder(
    kind: EngineKind[Any], tmp_path: Path
) -> None:
    proven = {
        folder_of(other).name
        for other in KINDS.values()
        if isinstance(other.proof(tmp_path, SERVERS.get(other.server or "", "http://h")), Configured)
    }

    assert folder_of(kind).name in proven


def test_reading_settings_imports_no_client_library() -> None:
    done = subprocess.run([sys.executable, "-c", CLIENTS], capture_output=True, text=True, check=True)
    libraries = {kind.extra.module for kind in KINDS.values() if kind.extra is not None} | {"chromadb"}

    assert libraries & set(done.stdout.split()) == set()


@ALL
def test_module_of_a_kind_imports_only_what_settings_need(kind: EngineKind[Any]) -> None:
    tree = ast.parse(Path(importlib.import_module(type(kind).__module__).__file__ or "").read_text())
    imported = [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
    ours = [module for module in imported if module.startswith("regate_adapters.vector.")]

    assert [module for module in ours if not module.endswith((".settings", ".kind"))] == []


def test_missing_client_library_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationError) as refused:
        KINDS["pgvector"].require_installed("vector.stores.main")

    said = "vector.stores.main: pgvector needs PostgreSQL's driver: install regate[postgres]"
    assert refused.value.message == said


@pytest.mark.parametrize(
    ("given", "kind", "is_embedded"),
    [
        ({"path": "p"}, "local", True),
        ({"kind": "local", "path": "p", "memory_mb": 64}, "local", True),
        ({"kind": "chroma", "path": "p", "url": None}, "chroma", True),
        ({"kind": "chroma_server", "url": "http://h"}, "chroma_server", False),
        ({"kind": "pgvector", "url_env": "V", "on_inexpressible": "gate"}, "pgvector", False),
        ({"kind": "memory"}, "memory", False),
    ],
)
def test_settings_are_of_the_class_of_their_kind(
    given: dict[str, object], kind: str, *, is_embedded: bool
) -> None:
    settings = read_settings(given)

    assert type(settings) is KINDS[kind].settings
    assert isinstance(settings, EmbeddedSettings) == is_embedded


@pytest.mark.parametrize("given", [None, [], "chroma", 7])
def test_settings_that_are_no_group_are_refused(given: object) -> None:
    with pytest.raises(ValueError, match="valid dictionary"):
        read_settings(given)


@pytest.mark.parametrize("kind", [None, "", "nowhere", ["chroma"], 7])
def test_kind_that_is_not_there_is_refused_with_those_that_are(kind: object) -> None:
    names = [repr(name) for name in KINDS]
    with pytest.raises(ValueError, match=f"should be {', '.join(names[:-1])} or {names[-1]}"):
        read_settings({"kind": kind})


def test_secrets_are_not_shown() -> None:
    configured = Configured(KINDS["memory"].settings(), "vector.stores.main", {"key": "hidden"})

    assert "hidden" not in repr(configured)
