"""ARCHITECTURE.md is true: every file that it names is there, its recipes name what is to be touched, and the
tree keeps the measures that make it readable.
"""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
PACKAGES: Final = ("orchestrator/regate_orchestrator", "adapters/regate_adapters", "gateway/regate_gateway")
MODULES: Final = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
MOST_EXISTING: Final = {
    "a vector engine": 3,
    "a tool that runs here": 4,
    "a decision point": 4,
    "a route": 2,
    "a metric": 2,
    "a guard": 3,
    "a provider of identities": 5,
    "a quota backend": 4,
}
"""Files that are there already and that a recipe has one change, beside acceptance suites and ports."""


def recipes() -> dict[str, list[tuple[str, str | None]]]:
    """Each recipe's paths, each with the name that it says is in the file."""
    rows = re.findall(r"^\| (a [^|]+?) \| (.+) \|$", PAGE.partition("\n## Recipes\n")[2], re.MULTILINE)
    return {
        title: [
            (path, name or None)
            for path, name in re.findall(r"`([\w./<>-]+/[\w./<>-]+|pyproject\.toml)`(?: \(`([\w-]+)`)?", text)
        ]
        for title, text in rows
    }


def statements() -> Iterator[tuple[Path, ast.AST]]:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield path, node


@pytest.mark.parametrize("title", MOST_EXISTING)
def test_recipe_names_files_that_are_there_and_what_is_in_them(title: str) -> None:
    paths = recipes()[title]
    for path, name in paths:
        if "<" in path:
            assert (
                list(ROOT.glob(re.sub(r"<\w+>", "*", path).rstrip("/")))
                or "adapters/regate_adapters/<kind>" in path
            ), path
        else:
            assert (ROOT / path).exists(), path
            assert name is None or name in (ROOT / path).read_text(encoding="utf-8"), (path, name)
    changed = [
        path for path, _ in paths if "<" not in path and "/testing/" not in path and "/ports/" not in path
    ]
    assert len(changed) <= MOST_EXISTING[title], changed


def test_every_file_that_the_page_names_is_there() -> None:
    prose = PAGE.partition("\n## Recipes\n")[0]
    named = {one.strip("/") for one in re.findall(r"`((?:[a-z_]+/)*[a-z_]+(?:\.py|/))`", prose)}
    known = {str(path.relative_to(ROOT)) for path in MODULES}
    known |= {str(Path(path).parent) for path in known} | {
        str(Path(path).parents[1]) for path in known if path.count("/") > 2
    }
    known |= {"rego", "policy-tests", "tests", "orchestrator", "adapters", "gateway"}
    short = {
        one.replace("regate_orchestrator/", "").replace("regate_adapters/", "").replace("regate_gateway/", "")
        for one in known
    }
    missing = [
        one for one in sorted(named) if not any(path == one or path.endswith(f"/{one}") for path in short)
    ]
    assert (len(named) > 40, missing) == (True, [])


def test_tools_that_run_here_are_known_by_name_where_the_recipe_says_alone() -> None:
    """The core names `file_search` in its own module, and nowhere else."""
    named = {
        str(path.relative_to(ROOT)).split("/", 2)[2]
        for path, node in statements()
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"file_search(_call)?(\..*)?", node.value)
    }
    machine = {one for one in named if one.startswith(("responses/", "retrieval/", "authz/"))}
    assert machine == {"responses/tools/kinds/file_search.py"}


# ---------------------------------------------------------------- measures


def test_no_folder_has_more_than_fifteen_modules() -> None:
    full = {}
    for folder in {path.parent for path in MODULES}:
        modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        if len(modules) > 15 and folder.name != "versions":  # a migration a change of the schema
            full[str(folder.relative_to(ROOT))] = len(modules)
    assert full == {}


def test_modules_are_short() -> None:
    lines = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n")
        for path in MODULES
        if path.name != "__init__.py"
    }
    assert {path: count for path, count in lines.items() if count > 400} == {}
    assert statistics.median(lines.values()) <= 130


def test_functions_are_short() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.name}": node.end_lineno - node.lineno + 1
        for path, node in statements()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= 60
    }
    assert long == {}


def test_modules_do_not_import_each_other_in_circles() -> None:
    """Imports for types count: a circle that hides behind TYPE_CHECKING is one."""
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts[1:]).removesuffix(".__init__"): path
        for path in MODULES
    }
    imports: dict[str, set[str]] = {name: set() for name in names}
    for name, path in names.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                for alias in node.names:
                    target = f"{node.module}.{alias.name}"
                    imports[name].add(target if target in names else node.module)
    left = {name: targets & set(names) - {name} for name, targets in imports.items()}
    while free := {name for name, targets in left.items() if not targets & set(left)}:
        left = {name: targets for name, targets in left.items() if name not in free}
    assert sorted(left) == []


@pytest.mark.parametrize("package", ["orchestrator/regate_orchestrator", "gateway/regate_gateway"])
def test_rooms_depend_on_each_other_in_one_direction(package: str) -> None:
    room = ROOT / package
    names = {path.stem for path in room.iterdir()}
    imports: dict[str, set[str]] = {name: set() for name in names}
    for path in room.rglob("*.py"):
        own = path.relative_to(room).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                whole = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                others = {one.split(".")[1] for one in whole if one.startswith(f"{room.name}.")}
                imports[own] |= others & names - {own}
    left = imports
    while free := {name for name, targets in left.items() if not targets & set(left)}:
        left = {name: targets for name, targets in left.items() if name not in free}
    assert left == {}
