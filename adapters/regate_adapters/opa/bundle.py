"""A policy directory as a bundle that OPA loads whole, with a revision that is a digest of its content.

A directory has no revision of its own, so everything that quotes one (decisions, filter plans, audit records) would quote nothing. The
bundle also carries `data.regate.meta`: the revision once more, so that a query can return it together with its answer, which helper rules
partial evaluation must leave alone, and where each rule stands. Not the running of OPA (`process.py`); the reader of
`data.regate.meta` is `engine.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import yaml

from regate_adapters.opa.acceptance.judging import in_words, judged, schemas_in
from regate_adapters.opa.listing import DIGESTS, MANIFEST, DirectoryChanged, Fingerprint, departure, listing, read_whole
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.values import JsonObject

_AUTHZ: Final = ("data", "system", "authz")
_ENTRYPOINTS: Final = ("allow", "admit_result")
_DEADLINE_S: Final = 30
_POLICIES_KEPT: Final = 8
_MODULES_KEPT: Final = 128
_CUSTOM: Final = "data.regate.custom."
_OPERATORS: Final = ("schemas", "operators")

# Of the schemas of operators' documents, given as input: which have no document, and what is wrong with the others.
_DOCUMENT_FAULTS: Final = """{
    "missing": [name | some name, _ in input; count([document | document := data.regate[name]]) == 0],
    "wrong": [[name, fault.field, fault.desc] |
        some name, schema in input
        [_, faults] := json.match_schema(json.marshal(data.regate[name]), schema)
        some fault in faults
    ],
}"""


class BrokenPolicy(ConfigurationError):
    """The policy directory makes no bundle; the message is OPA's own and names file and line."""


class IncompletePolicy(BrokenPolicy):
    """Not all of the policy is there: somebody is still writing it, or did not finish."""


@dataclass(frozen=True, slots=True)
class PolicySource:
    """What a policy directory held at one moment: file contents by relative path, and whether a list of digests says that these are all."""

    files: Mapping[str, bytes]
    seen: Fingerprint = frozenset()
    listed: bool = False

    @property
    def digest(self) -> str:
        """Return the digest of names and contents: equal exactly when the policies are."""
        digest = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            digest.update(f"{len(name.encode())} {len(content)} {name}".encode())
            digest.update(content)
        return digest.hexdigest()

    @property
    def revision(self) -> str:
        """Return so much of the digest as tells policies apart."""
        return self.digest[:16]


def read_source(directory: Path) -> PolicySource:
    """Return the policies, data and schemas in the directory, as they were at one moment; tests are left out.

    Raises `IncompletePolicy` while there is no such moment, when there are no policies, or others than the directory's list of digests names;
    `BrokenPolicy` when they cannot be read.
    """
    try:
        seen, files = read_whole(directory)
    except (DirectoryChanged, FileNotFoundError, NotADirectoryError) as error:
        raise IncompletePolicy(f"{directory} cannot be read: {error}") from error
    except OSError as error:
        raise BrokenPolicy(f"{directory} cannot be read: {error}") from error
    digests = files.pop(DIGESTS, None)
    if digests is not None and (fault := departure(files, digests)) is not None:
        raise IncompletePolicy(f"{directory} is not what its {DIGESTS} lists: {fault}")
    if not any(name.endswith(".rego") for name in files):
        raise IncompletePolicy(f"{directory} holds no .rego file")
    return PolicySource(files, seen=frozenset(seen.items()), listed=digests is not None)


def fingerprint(directory: Path) -> Fingerprint:
    """Return what changes when a file in the directory does, empty without one: cheap enough to be asked several times a second."""
    try:
        return frozenset(listing(directory).items())
    except OSError:
        return frozenset()


def build_bundle(
    source: PolicySource,
    target: Path,
    *,
    opa: Path,
    gateway_token: str | None = None,
    revision: str | None = None,
    signing_key: Path | None = None,
    required: Collection[str] = (),
) -> None:
    """Write the bundle of these policies to `target`, at once or not at all, after `opa check --strict` found nothing wrong.

    The revision is the content's own digest unless another is given. With a signing key (a private key in PEM, for RS256) the bundle carries
    a signature of every file in it, `data.regate.meta` included.

    The policies may not say what no filter can, nor ask for what the gateway does not do (`acceptance`). An operators' document that has a
    schema may not be missing or wrong, since what it restricts would then be free, nor a rule of `regate.custom` be one that nothing consults:
    a misspelt `deny` would deny nothing. `required` are the paths, below `data`, of rules that must be there: OPA answers for one that is not
    as it answers for one that denies.

    A gateway token is put where `system.authz` reads it, so a bundle with a token must stay where only OPA can read it; policies without
    `system.authz` are then refused, as OPA would answer nothing. Raises `BrokenPolicy` with OPA's message.
    """
    named = revision or source.revision
    with tempfile.TemporaryDirectory(prefix="build-", dir=target.parent) as folder:
        staged = Path(folder) / "policy"
        for name, content in source.files.items():
            path = staged / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        _examine(opa, _Content(source.digest.encode(), staged))  # first: its messages are written for people
        names = sorted(name for name in source.files if name.endswith(".rego"))
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # OPA parses one file a process, and start-up waits for all of them
            modules = dict(zip(names, pool.map(lambda name: _parse(opa, staged / name), names), strict=True))
        _require_consulted(modules)
        _require_rules(modules, required)
        require_acceptable(modules, source.files)
        if gateway_token is not None:
            if _AUTHZ not in {_package(module) for module in modules.values()}:
                raise BrokenPolicy("the policies have no package system.authz, without which OPA would refuse every question")
            _write_data(staged / "system" / "gateway_token", gateway_token)
        _write_data(staged / "regate" / "meta", describe_modules(modules, revision=named))
        built = Path(folder) / "bundle.tar.gz"
        _pack(staged, built, opa=opa, revision=named, signing_key=signing_key)
        built.chmod(0o600)
        built.replace(target)


def require_acceptable(trees: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Raise `BrokenPolicy` where policies, by their syntax trees and files, say what no filter can, or ask for what the gateway does not do."""
    try:
        findings = judged(trees, files, schemas_in(files))
    except ConfigurationError as error:
        raise BrokenPolicy(error.message) from error
    if findings:
        raise BrokenPolicy(in_words(findings))


def describe_modules(modules: Mapping[str, Any], *, revision: str) -> JsonObject:
    """Return `data.regate.meta` for parsed modules, by file name.

    `helpers` lists, per package, the complete boolean rules without arguments of that package and of the packages it refers to, except
    entrypoints: partial evaluation must not inline them, or a principal with many teams costs seconds and a negated one is not exact.
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
            (defaults if rule.get("default") else places).setdefault(named, f"{name}:{rule['location']['row']}")
    for package, rules in _rules_by_package(modules).items():
        own[package] = {f"{package}.{name}" for name, group in rules.items() if name not in _ENTRYPOINTS and all(map(_is_helper, group))}
    helpers = {
        package.removeprefix("data.").replace(".", "/"): sorted(set().union(*(own[reached] for reached in _reach(package, mentioned))))
        for package in own
    }
    return {"revision": revision, "helpers": helpers, "places": defaults | places}


def _write_data(folder: Path, value: object) -> None:
    if folder.exists():
        raise BrokenPolicy(f"{folder.parent.name}/{folder.name} is reserved: the bundle fills it in")
    folder.mkdir(parents=True)
    (folder / "data.json").write_text(json.dumps(value), encoding="utf-8")


def _pack(staged: Path, target: Path, *, opa: Path, revision: str, signing_key: Path | None) -> None:
    """Write the bundle: modules and schemas as they were written, all data in one document, the manifest, and signatures of these.

    OPA ignores the schemas; a gateway that is given the bundle needs those of the rows.

    Not by `opa build`, which writes modules anew from its formatter: OPA 1.22.2 drops parentheses there, and `input.a` followed by
    `(-1) == input.b` on the next line comes to mean `input.a - 1 == input.b`. What was checked and tested must be what runs.
    """
    packed = staged.parent / "packed"
    for path in sorted([*staged.rglob("*.rego"), *(staged / "schemas").rglob("*.json")]):
        copy = packed / path.relative_to(staged)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (packed / "data.json").write_text(json.dumps(_merged_data(staged)), encoding="utf-8")
    manifest = json.loads((staged / MANIFEST).read_bytes()) if (staged / MANIFEST).is_file() else {"rego_version": 1}
    (packed / MANIFEST).write_text(json.dumps(manifest | {"revision": revision}), encoding="utf-8")
    _check(opa, packed)  # packages outside of the manifest's roots, and data that collides with rules, show only in a whole bundle
    if signing_key is not None:
        key = ["--signing-alg", "RS256", "--signing-key", str(signing_key.resolve())]
        _run(opa, ["sign", *key, "--bundle", ".", "--output-file-path", "."], at=packed)
    with tarfile.open(target, "w:gz") as bundle:
        for path in sorted(path for path in packed.rglob("*") if path.is_file()):
            entry = bundle.gettarinfo(path)
            entry.name = f"/{path.relative_to(packed).as_posix()}"  # as OPA's own bundles name their files
            with path.open("rb") as content:
                bundle.addfile(entry, content)


def _merged_data(staged: Path) -> dict[str, Any]:
    """Return all `data.json` and `data.yaml` files as one document, each below its folder's path, as OPA places them."""
    merged: dict[str, Any] = {}
    for path in sorted(path for name in ("data.json", "data.yaml", "data.yml") for path in staged.rglob(name)):
        place = path.relative_to(staged)
        try:
            document = json.loads(path.read_bytes()) if path.suffix == ".json" else yaml.safe_load(path.read_bytes())
        except (ValueError, yaml.YAMLError) as error:
            raise BrokenPolicy(f"{place} cannot be read: {error}") from error
        for folder in reversed(place.parent.parts):
            document = {folder: document}
        if not isinstance(document, dict):
            raise BrokenPolicy(f"{place} must hold an object")
        _merge(merged, document)
    return merged


def _merge(into: dict[str, Any], document: Mapping[str, Any]) -> None:
    for name, value in document.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:  # OPA's check has refused what two documents give
            into[name] = value


def _check(opa: Path, staged: Path) -> None:
    schemas = ["--schema", "schemas"] if (staged / "schemas").is_dir() else []
    _run(opa, ["check", "--strict", *schemas, "--bundle", "."], at=staged)


def _require_documents(opa: Path, staged: Path) -> None:
    schemas = {path.stem: json.loads(path.read_bytes()) for path in sorted(staged.joinpath(*_OPERATORS).glob("*.json"))}
    if not schemas:
        return
    given = staged.parent / "operators.json"
    given.write_text(json.dumps(schemas), encoding="utf-8")
    arguments = ["eval", "--bundle", staged.name, "--input", given.name, "--strict-builtin-errors", "--format", "raw", _DOCUMENT_FAULTS]
    found = json.loads(_run(opa, arguments, at=staged.parent))
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
                raise BrokenPolicy(f"{place}: nothing consults {path[5:]}: correct its name, or let it begin with an underscore")


def _require_rules(modules: Mapping[str, Any], required: Collection[str]) -> None:
    rules = {f"{package}.{name}": group for package, named in _rules_by_package(modules).items() for name, group in named.items()}
    for path in sorted("data." + rule.replace("/", ".") for rule in required):
        if path not in rules:
            raise BrokenPolicy(f"{path} is missing, and OPA answers a missing rule as a denial: define it, or keep the shipped one")
        if any(rule["head"].get("args") for rule in rules[path]):
            raise BrokenPolicy(f"{path} takes arguments, so it cannot be asked for: leave them out")


@dataclass(frozen=True, slots=True)
class _Content:
    """What is somewhere: equal to the same content anywhere else, so that OPA need not be asked about it again."""

    identity: bytes
    place: Path = field(compare=False)


@lru_cache(maxsize=_POLICIES_KEPT)
def _examine(opa: Path, policies: _Content) -> None:
    """Raise `BrokenPolicy` for policies that OPA refuses, or that have not the documents they need."""
    _check(opa, policies.place)
    _require_documents(opa, policies.place)


def _parse(opa: Path, file: Path) -> Any:
    return json.loads(_parsed(opa, _Content(file.read_bytes(), file)))


@lru_cache(maxsize=_MODULES_KEPT)
def _parsed(opa: Path, module: _Content) -> bytes:
    arguments = ["parse", "--format", "json", "--json-include", "locations,-comments", module.place.name]
    return _run(opa, arguments, at=module.place.parent)


def _run(opa: Path, arguments: list[str], *, at: Path) -> bytes:
    # Relative paths, so that OPA's messages name files as the operator knows them.
    try:
        done = subprocess.run([opa, *arguments], cwd=at, capture_output=True, check=False, timeout=_DEADLINE_S, env={})  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BrokenPolicy(f"opa {arguments[0]} did not run: {error}") from error
    if done.returncode != 0:
        message = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise BrokenPolicy(f"opa {arguments[0]}: {message}")
    return done.stdout


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
    return single and "key" not in head and not head.get("args") and value["type"] == "boolean" and "else" not in rule


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
    """Return the package and all packages that it refers to, directly, through others, or by a name above theirs."""
    reached, waiting = {package}, [package]
    while waiting:
        for path in mentioned[waiting.pop()]:
            for other in mentioned:
                if other not in reached and (path == other or path.startswith(f"{other}.") or other.startswith(f"{path}.")):
                    reached.add(other)
                    waiting.append(other)
    return reached
