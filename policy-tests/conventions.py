"""Conventions of the policies that OPA itself does not check: annotations, the contract of
entrypoints, schemas, tests, safe negation.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import opa

from regate_orchestrator.authz.points import FILTERED, ROWS, asked_rules, custom_rules

Node = dict[str, Any]

# What the gateway asks for. `opa inspect -a` on a bundle must list exactly these.
ENTRYPOINTS: Final = {rule.removeprefix("regate/") for rule in asked_rules()}
FILTERS: Final = {point.short for point in FILTERED}

# The rules of `regate.custom` that the shipped rules consult; docs/extending-policies.md promises them to
# whoever extends.
CONSULTED: Final = custom_rules()

# The first key of an input, and a key of a thing in it; claims are open, so theirs are not checked.
_INPUT_KEYS: Final = (
    re.compile(r"(^[^#\n]*\binput\.[a-z_]+)", re.MULTILINE),
    re.compile(r"(^[^#\n]*\binput\.(?!claims)[a-z_]+\.[a-z_]+)", re.MULTILINE),
)


def faults() -> Iterator[str]:
    """Yield each breach of a convention, in words that say where it is."""
    modules = {
        path: opa.read("parse", str(path), "--format", "json")
        for path in sorted(opa.POLICIES.rglob("*.rego"))
    }
    yield from _packages(modules)
    yield from _annotations(modules)
    yield from _negations(modules)
    yield from _data_names(modules)
    yield from _consulted(modules)
    yield from _filter_rules(modules)
    yield from _row_schemas()
    yield from _misspelt_keys(modules)


def _name(module: Node) -> str:
    return ".".join(part["value"] for part in module["package"]["path"][1:])


def _place(path: Path) -> str:
    return path.relative_to(opa.ROOT).as_posix()


def _packages(modules: dict[Path, Node]) -> Iterator[str]:
    described: set[str] = set()
    for path, module in modules.items():
        folder = path.parent.relative_to(opa.POLICIES)
        expected = (
            ".".join(folder.parts) + f".{path.stem}"
            if folder.parts[0] == "system"
            else ".".join(("regate", *folder.parts))
        )
        if _name(module) != expected:
            yield f"{_place(path)}: package {_name(module)} should be {expected}, after its folder"
        test = opa.TESTS / folder / f"{path.stem if folder.parts[0] == 'system' else folder.name}_test.rego"
        if not test.exists():
            yield f"{_place(path)}: has no {_place(test)}"
        for annotation in module.get("annotations", []):
            if annotation["scope"] == "package" and annotation.get("title") and annotation.get("description"):
                described.add(_name(module))
    for name in sorted({_name(module) for module in modules.values()} - described):
        yield f"package {name}: needs METADATA with title and description"


def _annotations(modules: dict[Path, Node]) -> Iterator[str]:
    annotated: dict[str, Node] = {}
    codes: list[str] = []
    for module in modules.values():
        for rule in module.get("rules", []):
            for annotation in rule.get("annotations", []):
                annotated[f"{_name(module)}.{rule['head']['name']}"] = annotation
    for path, module in modules.items():
        for rule in module.get("rules", []):
            name = rule["head"]["name"]
            annotation = annotated.get(f"{_name(module)}.{name}", {})
            if not name.startswith("_") and not (annotation.get("title") and annotation.get("description")):
                yield f"{_place(path)}: {name} needs METADATA with title and description"
    entrypoints = {name for name, annotation in annotated.items() if annotation.get("entrypoint")}
    wanted = {f"regate.{path.replace('/', '.')}" for path in ENTRYPOINTS}
    for name in sorted(entrypoints ^ wanted):
        yield (
            f"{name}: is {'marked as' if name in entrypoints else 'not marked as'} an entrypoint, unlike "
            "what the gateway asks for"
        )
    for name in sorted(entrypoints):
        code = annotated[name].get("custom", {}).get("code")
        if not code or code in codes:
            yield f"{name}: needs a custom.code of its own"
        codes.append(code)


def _negations(modules: dict[Path, Node]) -> Iterator[str]:
    for path, module in modules.items():
        for node in _nodes(module.get("rules", [])):
            # OPA takes a reference out of a negation, so a missing key would make the whole rule undefined,
            # and a deny rule silent.
            if node.get("negated") and any(
                part.get("type") == "var" and part.get("value") == "input" for part in _nodes(node["terms"])
            ):
                yield (
                    f"{_place(path)}: negates an expression on input; negate a named rule, which survives "
                    "missing keys"
                )


def _data_names(modules: dict[Path, Node]) -> Iterator[str]:
    operators = json.loads((opa.POLICIES / "data.json").read_text(encoding="utf-8"))["regate"]
    schemas = {path.stem for path in (opa.SCHEMAS / "operators").glob("*.json")}
    if schemas != set(operators):
        yield (
            "rego/data.json and rego/schemas/operators differ in "
            f"{', '.join(sorted(schemas ^ set(operators)))}"
        )
    known = {("regate", name) for name in operators} | {
        tuple(_name(module).split(".")) for module in modules.values()
    }
    for path, module in modules.items():
        for node in _nodes(module):
            parts = node.get("value")
            if node.get("type") != "ref" or not isinstance(parts, list) or parts[0].get("value") != "data":
                continue
            names = tuple(str(part["value"]) for part in parts[1:])
            if (
                names[:1] == ("regate",)
                and names[:2] != ("regate", "custom")
                and not any(names[: len(one)] == one for one in known)
            ):
                yield f"{_place(path)}: data.{'.'.join(names)} is neither a package nor in rego/data.json"


def _consulted(modules: dict[Path, Node]) -> Iterator[str]:
    """Yield where the rules that are consulted differ from those that are promised. A package of
    custom rules must never be shipped.
    """
    found: set[str] = set()
    for path, module in modules.items():
        if _name(module).startswith("regate.custom"):
            yield f"{_place(path)}: custom rules are an operator's, so none are shipped"
        for node in _nodes(module):
            parts = node.get("value")
            if (
                node.get("type") == "ref"
                and isinstance(parts, list)
                and [part["value"] for part in parts[:3]] == ["data", "regate", "custom"]
            ):
                found.add("/".join(str(part["value"]) for part in parts[3:]))
    for rule in sorted(found ^ CONSULTED):
        yield (
            f"regate.custom/{rule}: is "
            f"{'consulted but not promised' if rule in found else 'promised but not consulted'}"
        )


def _filter_rules(modules: dict[Path, Node]) -> Iterator[str]:
    for path, module in modules.items():
        if path.parent.name not in FILTERS or path.stem != path.parent.name:
            continue
        for rule in module["rules"]:
            name = rule["head"]["name"]
            if "else" in rule or rule["head"].get("args"):
                yield f"{_place(path)}: {name} has an else or arguments, which no filter can follow"
            if rule.get("default") and name != "allow":
                yield f"{_place(path)}: {name} has a default; a helper of a filter has none"
            if (
                not rule.get("default")
                and name == "allow"
                and rule["head"]["value"] != {"type": "boolean", "value": True}
            ):
                yield f"{_place(path)}: allow may only ever be made true"


def _row_schemas() -> Iterator[str]:
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in opa.SCHEMAS.glob("*.json")}
    if set(found) != set(ROWS):
        yield f"rego/schemas holds {', '.join(sorted(found))}; rows are {', '.join(sorted(ROWS))}"
    for name, schema in found.items():
        if schema.get("additionalProperties") is not False or set(schema["required"]) != set(
            schema["properties"]
        ):
            yield f"rego/schemas/{name}.json: a row has all its fields, always, and no others"
        for key, field in schema["properties"].items():
            text_list = field["type"] == "array" and field.get("items") == {"type": "string"}
            if not text_list and field["type"] not in ("string", "integer", "boolean"):
                yield (
                    f"rego/schemas/{name}.json: {key} is neither a text, a whole number, a boolean nor a "
                    "list of texts"
                )


def _misspelt_keys(modules: dict[Path, Node]) -> Iterator[str]:
    """Yield each file in which OPA does not notice a misspelt input key: its package's schemas are
    not wired.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "rego"
        shutil.copytree(opa.POLICIES, copy)
        for path in modules:
            text = path.read_text(encoding="utf-8")
            target = copy / path.relative_to(opa.POLICIES)
            for key in _INPUT_KEYS:
                changed = key.sub(r"\1_misspelt", text, count=1)
                target.write_text(changed, encoding="utf-8")
                if changed != text and _accepted(copy):
                    yield (
                        f"{_place(path)}: a misspelt input key goes unnoticed; name the schemas in the "
                        "package's METADATA"
                    )
            target.write_text(text, encoding="utf-8")


def _accepted(policies: Path) -> bool:
    try:
        opa.call("check", "--strict", "--schema", str(policies / "schemas"), str(policies))
    except opa.Fault:
        return False
    return True


def _nodes(tree: Any) -> Iterator[Node]:
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)
