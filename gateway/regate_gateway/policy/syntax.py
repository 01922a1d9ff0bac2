"""The policies as OPA's own parser sees them: modules, rules, and which rule refers to which. Not what may be said; that is `authoring.py`.

The trees are those of `opa parse`, so names in them are not resolved yet: a rule of the same package, an imported name and a local variable
look alike. Here they are told apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from regate_gateway.policy.findings import Finding
from regate_gateway.policy.opa_command import OpaCommand, reported_errors

Node: TypeAlias = dict[str, Any]
Path: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Module:
    """One policy file: its name below the policy directory, its package (`data`, …), its imports by local name, its rules."""

    file: str
    package: Path
    imports: Mapping[str, Path]
    rules: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Definition:
    """One definition of a rule; a rule may have several, in several files. `refers` are the paths below `data` that it mentions."""

    path: Path
    module: Module
    node: Node
    refers: frozenset[Path]

    @property
    def head(self) -> Node:
        """Return the head of the rule."""
        return dict(self.node["head"])

    @property
    def is_function(self) -> bool:
        """Return whether the rule takes arguments."""
        return bool(self.head.get("args"))

    @property
    def is_partial(self) -> bool:
        """Return whether the rule makes a set or an object rather than one value."""
        return "key" in self.head or len(self.head.get("ref", ("",))) > 1


class Policies:
    """All parsed policies, with their rules by path."""

    def __init__(self, modules: Sequence[Module]) -> None:
        self.modules = tuple(modules)
        self.rules: dict[Path, list[Definition]] = {}
        names: dict[Path, set[str]] = {}
        for module in modules:
            names.setdefault(module.package, set()).update(rule_name(rule) for rule in module.rules)
        for module in modules:
            for node in module.rules:
                path = (*module.package, rule_name(node))
                refers = frozenset(_refers(node, module, names[module.package]))
                self.rules.setdefault(path, []).append(Definition(path, module, node, refers))

    def named(self, path: Path) -> list[Path]:
        """Return the rules that a path below `data` names: the rule it leads to or into, or all rules of a package."""
        inside = [path[:length] for length in range(len(path), 0, -1) if path[:length] in self.rules]
        return inside[:1] or [rule for rule in self.rules if rule[: len(path)] == path]

    def reached(self, start: Path) -> set[Path]:
        """Return the rule and all rules that it refers to, directly or through others."""
        found, waiting = {start} & self.rules.keys(), [start]
        while waiting:
            for definition in self.rules.get(waiting.pop(), ()):
                for named in {rule for path in definition.refers for rule in self.named(path)} - found:
                    found.add(named)
                    waiting.append(named)
        return found

    def resolve(self, term: Node, definition: Definition) -> list[Path]:
        """Return the rules that a term of this definition names; none for anything else."""
        return [rule for path in _paths(term, definition.module, self._names(definition)) for rule in self.named(path)]

    def _names(self, definition: Definition) -> set[str]:
        own = {path[-1] for path in self.rules if path[:-1] == definition.module.package}
        return own - set(locals_of(definition.node))


def parse_policies(names: Sequence[str], opa: OpaCommand) -> tuple[Policies, list[Finding]]:
    """Return the policies in these files of OPA's directory, and a finding for each file that does not parse."""
    modules: list[Module] = []
    findings: list[Finding] = []
    for name in names:
        said = opa.run("parse", "--format", "json", "--json-include", "locations,-comments", name)
        if said.status:
            findings += reported_errors(said, "syntax")
        else:
            modules.append(_module(name, json.loads(said.out)))
    return Policies(modules), findings


def rule_name(rule: Node) -> str:
    """Return the rule's own name, the first part of its reference."""
    head = rule["head"]
    return str(head["ref"][0]["value"] if head.get("ref") else head["name"])


def nodes(tree: Any) -> Iterator[Node]:
    """Yield every object of a syntax tree, outermost first; places are left out, and so is the root of a reference, which is no term."""
    if isinstance(tree, dict):
        yield tree
        if tree.get("type") == "ref" and tree["value"][0]["type"] == "var":
            yield from nodes(tree["value"][1:])
            return
        for key, value in tree.items():
            if key != "location":
                yield from nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from nodes(value)


def row_of(node: Node, otherwise: int = 0) -> int:
    """Return the line that a node begins on."""
    return int((node.get("location") or {}).get("row", otherwise))


def locals_of(rule: Node) -> Iterator[str]:
    """Yield the names that a rule declares for itself: arguments, `some`, `:=`, and the variables of `every`."""
    for argument in rule["head"].get("args") or ():
        yield from _variables(argument)
    for node in nodes(rule):
        terms = node.get("terms")
        if isinstance(terms, list) and is_call(terms, "assign"):
            yield from _variables(terms[1])
        elif isinstance(terms, dict) and "symbols" in terms:
            for symbol in terms["symbols"]:
                yield from _variables(symbol["value"][1:-1] if symbol["type"] == "call" else symbol)
        elif isinstance(terms, dict) and "domain" in terms:
            yield from _variables([terms.get("key") or {}, terms["value"]])


def is_call(terms: Sequence[Node], *operators: str) -> bool:
    """Return whether the terms are a call of one of these builtins."""
    return operator_of(terms) in operators


def operator_of(terms: Sequence[Node]) -> str:
    """Return the name of what is called, as it is written."""
    first = terms[0]
    return ".".join(str(part["value"]) for part in first["value"]) if first["type"] == "ref" else str(first["value"])


def _variables(tree: Any) -> Iterator[str]:
    return (str(node["value"]) for node in nodes(tree) if node.get("type") == "var")


def _module(name: str, tree: Node) -> Module:
    imports: dict[str, Path] = {}
    for imported in tree.get("imports") or ():
        parts = tuple(str(part["value"]) for part in imported["path"]["value"])
        if parts[0] == "data":
            imports[imported.get("alias") or parts[-1]] = parts
    package = tuple(str(part["value"]) for part in tree["package"]["path"])
    return Module(name, package, imports, tuple(tree.get("rules") or ()))


def _refers(rule: Node, module: Module, names: set[str]) -> Iterator[Path]:
    known = names - set(locals_of(rule))
    for node in nodes([rule.get("head"), rule.get("body"), rule.get("else")]):
        yield from _paths(node, module, known)


def _paths(term: Node, module: Module, names: set[str]) -> Iterator[Path]:
    """Yield the path below `data` that a term names by itself, if it names one."""
    match term:
        case {"type": "ref", "value": [{"type": "var", "value": str(root)}, *rest]}:
            parts = tuple(str(part["value"]) for part in _leading_names(rest))
        case {"type": "var", "value": str(root)}:
            parts = ()
        case _:
            return
    if root == "data":
        yield ("data", *parts)
    elif root in module.imports:
        yield (*module.imports[root], *parts)
    elif root in names:
        yield (*module.package, root, *parts)


def _leading_names(parts: Sequence[Node]) -> Iterator[Node]:
    for part in parts:
        if part["type"] != "string":
            return
        yield part
