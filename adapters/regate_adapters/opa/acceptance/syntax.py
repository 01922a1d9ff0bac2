"""Policies as OPA's own parser sees them: modules, rules with their names resolved, and which rule
refers to which. Not what may be said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from regate_adapters.opa.acceptance.names import resolved
from regate_adapters.opa.acceptance.nodes import (
    FALSE,
    TRUE,
    Node,
    Path,
    bare,
    leading_names,
    nodes,
    own_name,
    row_of,
    steps_below,
)


@dataclass(frozen=True, slots=True)
class Module:
    """One policy file: its name below the policy directory, its package (`data`, …), what its imports
    stand for, and its rules as parsed.
    """

    file: str
    package: Path
    imports: Mapping[str, list[Node]]
    rules: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class Definition:
    """One definition of a rule; a rule may have several, in several files. `known` are the names that
    its module knows.
    """

    path: Path
    module: Module
    parsed: Node
    known: Mapping[str, list[Node]]

    @cached_property
    def node(self) -> Node:
        """Return the definition with all names resolved."""
        return resolved(self.parsed, self.known)

    @property
    def head(self) -> Node:
        """Return the head of the rule."""
        return dict(self.node["head"])

    @property
    def value(self) -> Any:
        """Return the value that the head gives, without its place; `true` where it gives none."""
        return bare(self.head.get("value", TRUE))

    @property
    def row(self) -> int:
        """Return the line that the definition begins on."""
        return row_of(self.parsed)

    @property
    def name(self) -> str:
        """Return the rule's own name."""
        return self.path[-1]

    @property
    def is_default(self) -> bool:
        """Return whether this is the value for when nothing else holds."""
        return bool(self.parsed.get("default"))

    @property
    def is_function(self) -> bool:
        """Return whether the rule takes arguments."""
        return bool(self.parsed["head"].get("args"))

    @property
    def is_set(self) -> bool:
        """Return whether the rule makes a set (`contains`)."""
        return "key" in self.parsed["head"] and "value" not in self.parsed["head"]

    @property
    def is_partial(self) -> bool:
        """Return whether the rule makes a set or an object rather than one value."""
        return self.is_set or len(_head_names(self.parsed)) < len(self.parsed["head"].get("ref", ("",)))


class Policies:
    """All parsed policies, with their rules by path."""

    def __init__(self, modules: Sequence[Module]) -> None:
        self.modules = tuple(modules)
        self.rules: dict[Path, list[Definition]] = {}
        self._named: dict[Path, list[Path]] = {}
        self._referred: dict[Definition, set[Path]] = {}
        exported: dict[Path, dict[str, list[Node]]] = {}
        for module in modules:
            names = exported.setdefault(module.package, {})
            names.update(
                {own_name(rule): _reference((*module.package, own_name(rule))) for rule in module.rules}
            )
        for module in modules:
            known = {**exported[module.package], **module.imports}
            for node in module.rules:
                path = (*module.package, *_head_names(node))
                self.rules.setdefault(path, []).append(Definition(path, module, node, known))

    def named(self, path: Path) -> list[Path]:
        """Return the rules that a path below `data` names: those that it leads to or into, and all
        those below it.
        """
        if path not in self._named:
            self._named[path] = [rule for rule in self.rules if rule[: len(path)] == path[: len(rule)]]
        return self._named[path]

    def referred(self, tree: Any) -> set[Path]:
        """Return the rules that a resolved tree names."""
        paths = {
            ("data", *leading_names(steps))
            for node in nodes(tree)
            if (steps := steps_below(node, "data")) is not None
        }
        return {rule for path in paths for rule in self.named(path)}

    def referred_by(self, definition: Definition) -> set[Path]:
        """Return the rules that the definition names, those of an `else` included."""
        if definition not in self._referred:
            self._referred[definition] = self.referred(definition.node)
        return self._referred[definition]

    def exactly(self, term: Node) -> Path | None:
        """Return the one rule that a resolved term names by its whole path; None for anything else,
        what lies within its value included.
        """
        steps = steps_below(term, "data")
        if steps is None or any(step["type"] != "string" for step in steps):
            return None
        path = ("data", *leading_names(steps))
        return path if self.named(path) == [path] else None

    def is_open_helper(self, path: Path) -> bool:
        """Return whether OPA is told to leave the rule open in a filter (`bundle.describe_modules`): a
        plain rule that is true or false.
        """
        return path[-1] not in ("allow", "admit_result") and all(
            definition.value in (TRUE, FALSE)
            and not (definition.is_function or definition.is_partial or "else" in definition.parsed)
            and len(definition.parsed["head"].get("ref", ("",))) == 1
            for definition in self.rules[path]
        )


def modules_of(trees: Mapping[str, Node]) -> list[Module]:
    """Return the modules that OPA's parser made, by file name."""
    return [_module(name, tree) for name, tree in sorted(trees.items())]


def _head_names(rule: Node) -> Path:
    head = rule["head"]
    return (
        (str(head["ref"][0]["value"]), *leading_names(head["ref"][1:]))
        if head.get("ref")
        else (str(head["name"]),)
    )


def _module(name: str, tree: Node) -> Module:
    imports: dict[str, list[Node]] = {}
    for imported in tree.get("imports") or ():
        parts: list[Node] = imported["path"]["value"]
        if parts[0]["value"] in ("data", "input"):
            imports[imported.get("alias") or str(parts[-1]["value"])] = parts
    package = tuple(str(part["value"]) for part in tree["package"]["path"])
    return Module(name, package, imports, tuple(tree.get("rules") or ()))


def _reference(path: Iterable[str]) -> list[Node]:
    root, *names = path
    return [{"type": "var", "value": root}, *({"type": "string", "value": name} for name in names)]
