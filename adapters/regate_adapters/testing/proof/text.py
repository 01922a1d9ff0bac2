"""A random policy as rules and conditions, not as text, so that a counterexample can be shrunk and kept.

A policy is a chunk policy of one package and a library beside it, whose rules it may refer to. Which policies
there are is `grammar.py`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

_FULL: Final = """admitted contains i if {{
	some i, row in input.rows
	data.{package}.allow == true with input as {{"principal": input.principal, "chunk": row}}
}}"""
_PACKAGE: Final = "PACKAGE"
"""Stands for the policy's own package, which is given only when its text is made."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: its head, the conditions of its body (a rule with none has no body), and an `else`
    after it. `shared` ones are the library's.
    """

    head: str
    conditions: tuple[str, ...] = ()
    otherwise: str = ""
    shared: bool = False

    @property
    def name(self) -> str:
        """Return the name that other rules use."""
        return re.split(r"[ (\[]", self.head.removeprefix("default "), maxsplit=1)[0]

    def text(self) -> str:
        """Return the rule in Rego."""
        if not self.conditions:
            return self.head
        body = "\n\t".join(self.conditions)
        return f"{self.head} if {{\n\t{body}\n}}{self.otherwise}"


@dataclass(frozen=True, slots=True)
class RandomPolicy:
    """A chunk policy of one dialect: classic Rego, or (`modern`) the one in which `not` is a plain
    complement.
    """

    modern: bool
    rules: tuple[Rule, ...]
    imports: tuple[str, ...] = ()

    def modules(self, package: str) -> dict[str, str]:
        """Return the modules by package: the policy, with a rule that evaluates `allow` for each of
        `input.rows`, and its library if it has one.
        """
        own = [rule.text() for rule in self.rules if not rule.shared]
        shared = [rule.text() for rule in self.rules if rule.shared]
        imports = [f"import {name}" for name in self.imports if any(_is_used(name, text) for text in own)]
        found = {package: [*imports, *own, _FULL.format(package=package)]}
        if shared:
            found[f"{package}.lib"] = shared
        head = ["import rego.v2"] if self.modern else []
        return {
            name: "\n\n".join([f"package {name}", *head, *parts]).replace(_PACKAGE, package) + "\n"
            for name, parts in found.items()
        }

    def module(self, package: str) -> str:
        """Return the text of a policy that has no library."""
        (text,) = self.modules(package).values()
        return text

    def smaller(self) -> Iterator[RandomPolicy]:
        """Yield valid policies with one rule, one `else` or one condition less, the largest cuts first."""
        for position, rule in enumerate(self.rules):
            rest = self.rules[:position] + self.rules[position + 1 :]
            if not _is_needed(rule, rest):
                yield replace(self, rules=rest)
        for position, rule in enumerate(self.rules):
            cuts = [replace(rule, otherwise="")] if rule.otherwise else []
            if len(rule.conditions) > 1:
                less = [
                    rule.conditions[:cut] + rule.conditions[cut + 1 :] for cut in range(len(rule.conditions))
                ]
                cuts += [
                    replace(rule, conditions=conditions)
                    for conditions in less
                    if _binds_as_before(rule, conditions)
                ]
            elif rule.conditions and rule.conditions != ("true",) and _binds_as_before(rule, ()):
                cuts.append(replace(rule, conditions=("true",)))
            for smaller in cuts:
                yield replace(self, rules=(*self.rules[:position], smaller, *self.rules[position + 1 :]))


def as_json(policy: RandomPolicy) -> Mapping[str, object]:
    """Return the policy as a counterexample file holds it."""
    rules = [
        {
            "head": rule.head,
            "conditions": list(rule.conditions),
            "otherwise": rule.otherwise,
            "shared": rule.shared,
        }
        for rule in policy.rules
    ]
    return {"modern": policy.modern, "imports": list(policy.imports), "rules": rules}


def from_json(content: Mapping[str, Any]) -> RandomPolicy:
    """Return the policy that a counterexample file holds."""
    rules = tuple(
        Rule(rule["head"], tuple(rule["conditions"]), rule["otherwise"], shared=rule.get("shared", False))
        for rule in content["rules"]
    )
    return RandomPolicy(content["modern"], rules, tuple(content.get("imports", ())))


def named_in_package(name: str) -> str:
    """Return the whole path of a rule of the policy, or of its library (`lib.deny`), as a reference."""
    return f"data.{_PACKAGE}.{name}"


def _binds_as_before(rule: Rule, conditions: Sequence[str]) -> bool:
    """Return whether what is left binds every variable that it mentions, and uses every argument."""
    left = " ".join([re.sub(r'"[^"]*"', "", rule.head.removeprefix(rule.name)), *conditions])
    gone = [one for one in rule.conditions if one not in conditions]
    bound = {
        name for one in gone for pair in re.findall(r"^some (\w+) in|^(\w+) :=", one) for name in pair if name
    }
    arguments = set(re.findall(r"\b[a-z]\w*\b", rule.head.partition("(")[2].partition(")")[0]))
    used = {name for name in arguments if any(re.search(rf"\b{name}\b", one) for one in gone)}
    return not any(re.search(rf"\b{name}\b", left) for name in bound) and all(
        any(re.search(rf"\b{name}\b", one) for one in conditions) for name in used
    )


def _is_used(imported: str, text: str) -> bool:
    return re.search(rf"(?<![\w.]){imported.split()[-1]}\.", text) is not None


def _is_needed(rule: Rule, others: Sequence[Rule]) -> bool:
    own = [one for one in others if (one.name, one.shared) == (rule.name, rule.shared)]
    defined = any(not one.head.startswith("default ") for one in own)
    used = rule.name == "allow" or any(
        re.search(rf"\b{rule.name}\b", part)
        for one in others
        for part in (one.head, one.otherwise, *one.conditions)
    )
    # A default alone is no definition: `opa check` would take it, but it could not be told from the rule that
    # is gone.
    return not defined and (used or bool(own))
