"""Whether policies may serve, and what there is to know of those that may: OPA's own check, the contract of
their rules, what `acceptance` refuses.

Content that was found good once is not looked at again. Not the packing (`bundle.py`).
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from regate_adapters.opa.acceptance.judging import in_words, judged, schemas_in
from regate_adapters.opa.policies.source import BrokenPolicy, PolicySource
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.values import JsonObject

_Answer = TypeVar("_Answer")

_AUTHZ: Final = ("data", "system", "authz")
_ENTRYPOINTS: Final = ("allow", "admit_result")
_DEADLINE_SECONDS: Final = 30
_POLICIES_KEPT: Final = 8
_MODULES_KEPT: Final = 128
_CUSTOM: Final = "data.regate.custom."
_OPERATORS: Final = ("schemas", "operators")

# Of the schemas of operators' documents, given as input: which have no document, and what is wrong with the
# others.
_DOCUMENT_FAULTS: Final = """{
    "missing": [name | some name, _ in input; count([document | document := data.regate[name]]) == 0],
    "wrong": [[name, fault.field, fault.desc] |
        some name, schema in input
        [_, faults] := json.match_schema(json.marshal(data.regate[name]), schema)
        some fault in faults
    ],
}"""


@dataclass(frozen=True, slots=True)
class Content:
    """What is somewhere: equal to the same content anywhere else, so that OPA need not be asked about
    it again.
    """

    identity: bytes
    place: Path = field(compare=False)


@dataclass(frozen=True, slots=True)
class Vetted:
    """What there is to know of policies that may serve: `data.regate.meta` without a revision, and
    whether they say who may ask OPA.
    """

    described: JsonObject
    has_authz: bool


class _Newest(Generic[_Answer]):
    """The answers that were asked for last: what they are about is not kept."""

    def __init__(self) -> None:
        self._answers: dict[Hashable, _Answer] = {}

    def get(self, question: Hashable) -> _Answer | None:
        """Return the answer if there is one."""
        answer = self._answers.pop(question, None)
        return None if answer is None else self.keep(question, answer)

    def keep(self, question: Hashable, answer: _Answer) -> _Answer:
        """Return the answer, which is known from now on."""
        self._answers[question] = answer
        for oldest in list(self._answers)[:-_POLICIES_KEPT]:
            self._answers.pop(oldest, None)
        return answer


_vetted: Final[_Newest[Vetted]] = _Newest()
_examined: Final[_Newest[bool]] = _Newest()


def vet(
    opa: Path, source: PolicySource, required: frozenset[str], guarded: frozenset[str], *, within: Path
) -> Vetted:
    """Return what these policies are. Raises `BrokenPolicy` for such as may not serve. What OPA must see is
    written to a directory `within`, which is gone afterwards.
    """
    asked = (opa, source.digest, required, guarded)
    if (known := _vetted.get(asked)) is not None:
        return known
    with tempfile.TemporaryDirectory(prefix="vet-", dir=within) as folder:
        staged = Path(folder) / "policy"
        write_files(staged, source.files)
        _check(opa, staged)  # first: its messages are written for people
        _require_documents(opa, staged)
        names = sorted(name for name in source.files if name.endswith(".rego"))
        trees = side_by_side(lambda name: parsed_module(opa, staged / name), names)
    modules = dict(zip(names, trees, strict=True))
    _require_consulted(modules)
    _require_rules(modules, required)
    require_acceptable(modules, source.files, guarded=guarded)
    has_authz = _AUTHZ in {_package(module) for module in modules.values()}
    return _vetted.keep(asked, Vetted(describe_modules(modules), has_authz))


def examine_packed(opa: Path, identity: str, files: Mapping[str, bytes], *, within: Path) -> None:
    """Raise `BrokenPolicy` for a bundle of these files that OPA refuses: packages outside of its roots and
    data that collides with rules show only there. Bundles of one identity are refused alike.
    """
    if _examined.get((opa, identity)):
        return
    with tempfile.TemporaryDirectory(prefix="packed-", dir=within) as folder:
        write_files(Path(folder), files)
        _check(opa, Path(folder))
    _examined.keep((opa, identity), True)


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files below the folder, by their relative paths."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def run_opa(opa: Path, arguments: list[str], *, at: Path) -> bytes:
    """Return what OPA's command prints, run in `at`, so that its messages name files as the operator
    knows them. Raises `BrokenPolicy`.
    """
    try:
        done = subprocess.run(
            [opa, *arguments], cwd=at, capture_output=True, check=False, timeout=_DEADLINE_SECONDS, env={}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BrokenPolicy(f"opa {arguments[0]} did not run: {error}") from error
    if done.returncode != 0:
        message = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise BrokenPolicy(f"opa {arguments[0]}: {message}")
    return done.stdout


def parsed_module(opa: Path, file: Path) -> Any:
    """Return OPA's syntax tree of the file, with the place of each node. Raises `BrokenPolicy` where
    there is none.
    """
    return json.loads(_parsed(opa, Content(file.read_bytes(), file)))


def side_by_side(ask: Callable[[str], _Answer], names: Sequence[str]) -> list[_Answer]:
    """Return what is answered for each of the names, in their order. OPA parses one file a process,
    and somebody waits for all of them.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(ask, names))


def require_acceptable(
    trees: Mapping[str, Any], files: Mapping[str, bytes], *, guarded: Collection[str]
) -> None:
    """Raise `BrokenPolicy` where policies, by their syntax trees and files, say what no filter can, or
    ask for what the gateway does not do.
    """
    try:
        findings = judged(trees, files, schemas_in(files), guarded=guarded)
    except ConfigurationError as error:
        raise BrokenPolicy(error.message) from error
    if findings:
        raise BrokenPolicy(in_words(findings))


def describe_modules(modules: Mapping[str, Any]) -> JsonObject:
    """Return `data.regate.meta` for parsed modules, by file name, but for the revision.

    `helpers` lists, per package, the complete boolean rules without arguments of that package and of the
    packages it refers to, except entrypoints: partial evaluation must not inline them, or a principal with
    many teams costs seconds and a negated one is not exact.
    """
    own: dict[str, set[str]] = {}
    mentioned: dict[str, set[str]] = {}
    places: dict[str, str] = {}
    defaults: dict[str, str] = {}
    for name, module in sorted(modules.items()):
        package = ".".join(_package(module))
        own.setdefault(package, set())
        mentioned.setdefault(package, set()).update(_references(module))
        for rule in module.get("rules", ()):
            named = f"{package}.{_rule_name(rule)}"
            (defaults if rule.get("default") else places).setdefault(
                named, f"{name}:{rule['location']['row']}"
            )
    for package, rules in _rules_by_package(modules).items():
        own[package] = {
            f"{package}.{name}"
            for name, group in rules.items()
            if name not in _ENTRYPOINTS and all(map(_is_helper, group))
        }
    helpers = {
        package.removeprefix("data.").replace(".", "/"): sorted(
            set().union(*(own[reached] for reached in _reach(package, mentioned)))
        )
        for package in own
    }
    return {"helpers": helpers, "places": defaults | places}


def _check(opa: Path, staged: Path) -> None:
    schemas = ["--schema", "schemas"] if (staged / "schemas").is_dir() else []
    run_opa(opa, ["check", "--strict", *schemas, "--bundle", "."], at=staged)


def _require_documents(opa: Path, staged: Path) -> None:
    schemas = {
        path.stem: json.loads(path.read_bytes())
        for path in sorted(staged.joinpath(*_OPERATORS).glob("*.json"))
    }
    if not schemas:
        return
    given = staged.parent / "operators.json"
    given.write_text(json.dumps(schemas), encoding="utf-8")
    arguments = [
        "eval",
        "--bundle",
        staged.name,
        "--input",
        given.name,
        "--strict-builtin-errors",
        "--format",
        "raw",
        _DOCUMENT_FAULTS,
    ]
    found = json.loads(run_opa(opa, arguments, at=staged.parent))
    faults = [f"data.regate.{name} is missing" for name in found["missing"]]
    faults += [f"data.regate.{name}: {field}: {fault}" for name, field, fault in found["wrong"]]
    if faults:
        raise BrokenPolicy("operators' data: " + "; ".join(faults))


def _require_consulted(modules: Mapping[str, Any]) -> None:
    mentions = {name: set(_references(module)) for name, module in modules.items()}
    for name, module in sorted(modules.items()):
        package = ".".join(_package(module))
        if not f"{package}.".startswith(_CUSTOM):
            continue
        elsewhere = set().union(*(paths for other, paths in mentions.items() if other != name))
        for rule in module.get("rules", ()):
            path = f"{package}.{_rule_name(rule)}"
            # From elsewhere a rule is named whole, or its package is imported.
            consulted = package in elsewhere or any(f"{other}.".startswith(f"{path}.") for other in elsewhere)
            if not consulted and not _rule_name(rule).startswith("_"):
                place = f"{name}:{rule['location']['row']}"
                raise BrokenPolicy(
                    f"{place}: nothing consults {path[5:]}: correct its name, or let it begin with an "
                    "underscore"
                )


def _require_rules(modules: Mapping[str, Any], required: Collection[str]) -> None:
    rules = {
        f"{package}.{name}": group
        for package, named in _rules_by_package(modules).items()
        for name, group in named.items()
    }
    for path in sorted("data." + rule.replace("/", ".") for rule in required):
        if path not in rules:
            raise BrokenPolicy(
                f"{path} is missing, and OPA answers a missing rule as a denial: define it, or keep "
                "the shipped one"
            )
        if any(rule["head"].get("args") for rule in rules[path]):
            raise BrokenPolicy(f"{path} takes arguments, so it cannot be asked for: leave them out")


@lru_cache(maxsize=_MODULES_KEPT)
def _parsed(opa: Path, module: Content) -> bytes:
    arguments = ["parse", "--format", "json", "--json-include", "locations,-comments", module.place.name]
    return run_opa(opa, arguments, at=module.place.parent)


def _package(module: Any) -> tuple[str, ...]:
    return tuple(part["value"] for part in module["package"]["path"])


def _rule_name(rule: Any) -> str:
    head = rule["head"]
    name: str = head["ref"][0]["value"] if head.get("ref") else head["name"]
    return name


def _rules_by_package(modules: Mapping[str, Any]) -> dict[str, dict[str, list[Any]]]:
    grouped: dict[str, dict[str, list[Any]]] = {}
    for module in modules.values():
        rules = grouped.setdefault(".".join(_package(module)), {})
        for rule in module.get("rules", ()):
            rules.setdefault(_rule_name(rule), []).append(rule)
    return grouped


def _is_helper(rule: Any) -> bool:
    head = rule["head"]
    value = head.get("value", {"type": "boolean"})
    single = len(head.get("ref", ("",))) == 1
    return (
        single
        and "key" not in head
        and not head.get("args")
        and value["type"] == "boolean"
        and "else" not in rule
    )


def _references(node: Any) -> Iterable[str]:
    """Yield the `data.…` paths that a syntax tree mentions, imports included."""
    if isinstance(node, dict):
        if node.get("type") == "ref" and node["value"][0].get("value") == "data":
            names = [part["value"] for part in node["value"] if isinstance(part.get("value"), str)]
            yield ".".join(names)
        for child in node.values():
            yield from _references(child)
    elif isinstance(node, list):
        for child in node:
            yield from _references(child)


def _reach(package: str, mentioned: Mapping[str, set[str]]) -> set[str]:
    """Return the package and all packages that it refers to, directly, through others, or by a name
    above theirs.
    """
    reached, waiting = {package}, [package]
    while waiting:
        for path in mentioned[waiting.pop()]:
            for other in mentioned:
                if other not in reached and (
                    path == other or path.startswith(f"{other}.") or other.startswith(f"{path}.")
                ):
                    reached.add(other)
                    waiting.append(other)
    return reached
