"""Random policies: chunk rules that are always valid Rego, of a grammar wider than what filters can express.

A policy is kept as rules and conditions, not as text, so that a counterexample can be shrunk (`proof_shrink.py`). Which of them translate
is not known here; the translator and the stores say so, and the proof (`proof.py`) compares what they accept with full evaluation.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from regate_adapters.testing.policy_rows import LISTS, SCALARS

Form: TypeAlias = Literal["ambiguous", "beyond"]
"""What a grammar may write besides the fragment: `ambiguous`, what partial evaluation makes ambiguous where fields may be missing;
`beyond`, what has no filter at all, or in some stores only."""

_OPERATORS: Final = ("==", "!=", "<", "<=", ">", ">=")
_FULL: Final = """admitted contains i if {{
	some i, row in input.rows
	data.{package}.allow == true with input as {{"principal": input.principal, "chunk": row}}
}}"""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: its head, the conditions of its body (a rule with none has no body), and an `else` after it."""

    head: str
    conditions: tuple[str, ...] = ()
    otherwise: str = ""

    @property
    def name(self) -> str:
        """Return the name that other rules use."""
        return _name_of(self.head)

    def text(self) -> str:
        """Return the rule in Rego."""
        if not self.conditions:
            return self.head
        body = "\n\t".join(self.conditions)
        return f"{self.head} if {{\n\t{body}\n}}{self.otherwise}"


@dataclass(frozen=True, slots=True)
class RandomPolicy:
    """A chunk policy of one dialect: classic Rego, or (`modern`) the one in which `not` is a plain complement."""

    modern: bool
    rules: tuple[Rule, ...]

    def module(self, package: str) -> str:
        """Return the module, with a rule that evaluates `allow` in full for each of `input.rows`."""
        head = [f"package {package}", *(["import rego.v2"] if self.modern else [])]
        return "\n\n".join([*head, *(rule.text() for rule in self.rules), _FULL.format(package=package)]) + "\n"

    def smaller(self) -> Iterator[RandomPolicy]:
        """Yield valid policies with one rule, one `else` or one condition less, the largest cuts first."""
        for position, rule in enumerate(self.rules):
            rest = self.rules[:position] + self.rules[position + 1 :]
            if not _is_needed(rule.name, rest):
                yield replace(self, rules=rest)
        for position, rule in enumerate(self.rules):
            cuts = [replace(rule, otherwise="")] if rule.otherwise else []
            if len(rule.conditions) > 1:
                ranges = range(len(rule.conditions))
                cuts += [replace(rule, conditions=rule.conditions[:cut] + rule.conditions[cut + 1 :]) for cut in ranges]
            elif rule.conditions and rule.conditions != ("true",) and "(" not in rule.head:
                cuts.append(replace(rule, conditions=("true",)))
            for smaller in cuts:
                yield replace(self, rules=(*self.rules[:position], smaller, *self.rules[position + 1 :]))


def _name_of(head: str) -> str:
    return re.split(r"[ (]", head.removeprefix("default "), maxsplit=1)[0]


def _is_needed(name: str, others: tuple[Rule, ...]) -> bool:
    defined = any(rule.name == name and not rule.head.startswith("default ") for rule in others)
    used = name == "allow" or any(re.search(rf"\b{name}\b", condition) for rule in others for condition in rule.conditions)
    # A default alone is no definition: `opa check` would take it, but it could not be told from the rule that is gone.
    return not defined and (used or any(rule.name == name for rule in others))


class Grammar:
    """Writes random policies: of the fragment, and of whatever else `forms` names."""

    def __init__(self, seed: str | int, *, modern: bool, forms: frozenset[Form]) -> None:
        self._random = random.Random(seed)  # noqa: S311 — repeatable, not secret
        self._modern = modern
        self._ambiguous = "ambiguous" in forms
        self._beyond = "beyond" in forms
        self._locals = 0
        self._wild = self._beyond and self._random.random() < 0.35
        """Most policies stay inside the fragment even so: one form that has no filter makes the whole policy have none."""

    def policy(self) -> RandomPolicy:
        """Return one policy: an `allow`, and helpers that it and each other may use."""
        rules: list[Rule] = []
        helpers: list[str] = []
        for name in ("one", "two"):
            rules += self._helper(name, helpers)
            helpers.append(name)
        if self._beyond and self._random.random() < 0.2:
            rules.append(Rule("low(row)", (f"row.level {self._operator()} {self._constant('level')}",)))
            helpers.append("low(input.chunk)")
        if self._random.random() < 0.2:
            rules.append(Rule("default allow := false"))
        rules += [self._rule("allow", helpers) for _ in range(self._random.randint(1, 2))]
        return RandomPolicy(self._modern, tuple(rules))

    # ------------------------------------------------------------ rules

    def _helper(self, name: str, helpers: list[str]) -> list[Rule]:
        chance = self._random.random()
        bodies = range(self._random.randint(1, 2))
        if chance < 0.3:
            return [Rule(f"default {name} := false"), *(self._rule(name, helpers) for _ in bodies)]
        if chance < 0.4:
            return [Rule(f"default {name} := true"), *(self._rule(f"{name} := false", helpers) for _ in bodies)]
        rules = [self._rule(name, helpers) for _ in bodies]
        if self._wild and chance < 0.5:
            value = self._random.choice(("true", "false"))
            rules = [replace(rules[0], otherwise=f" else := {value} if {self._comparison()}")]
        return rules

    def _rule(self, head: str, helpers: list[str]) -> Rule:
        return Rule(head, tuple(self._condition(helpers) for _ in range(self._random.randint(1, 3))))

    def _condition(self, helpers: list[str]) -> str:
        kinds: list[Callable[[], str]] = [self._atom] * 6 + [self._negated] * 2 + [self._membership] * 3
        if helpers:
            kinds += [lambda: self._random.choice(("", "not ")) + self._random.choice(helpers)] * 3
        if self._modern:
            kinds += [self._junction, self._negated_body]
        if self._ambiguous:
            kinds += [self._local, self._text, self._element]
        if self._beyond:
            kinds += [self._strange_constant, self._of_principal]
        if self._wild:
            kinds += [self._without_a_filter] * 2
        return self._random.choice(kinds)()

    # ------------------------------------------------------------ the fragment

    def _atom(self) -> str:
        name, operator = self._scalar(), self._operator()
        field, constant = f"input.chunk.{name}", self._constant(name)
        forms = [
            f"{field} {operator} {constant}",
            # A line that begins with a negative number is subtracted from the line before; parentheses do not survive `opa build`.
            f"{constant} {operator} {field}" if not constant.startswith("-") else f"{field} {operator} {constant}",
            f"{field} in [{constant}, {self._constant(name)}]",
            f"{field} in {{{constant}}}",
            field,
            f"{field} {operator} {self._other_field(name)}",
            f"input.chunk.level {operator} input.principal.clearance",
            "input.chunk.tenant == input.principal.tenant",
            "input.chunk.owner == input.principal.id",
            f'{{"eu": 1, "us": 2}}[input.chunk.region] <= {self._random.randint(0, 2)}',
            f"every x in [{constant}, {self._constant(name)}] {{ {field} != x }}",
            f"input.principal.clearance {operator} 1",
        ]
        if self._ambiguous:
            forms.append(f"{field} = _")  # OPA drops it beside a negated test of the same field
        return self._random.choice(forms)

    def _membership(self) -> str:
        name, item = self._list(), self._fresh("item")
        constant = self._element_of(name)
        forms = [
            f"{constant} in input.chunk.{name}",
            f"input.chunk.{name}[_] == {constant}",
            f"some {item} in input.chunk.{name}\n\t{item} in input.principal.teams",
            f"some {item} in input.principal.teams\n\t{item} in input.chunk.{name}",
            f"some {item} in input.chunk.{name}\n\t{item} == {constant}",
            f"some {item} in input.chunk.{name}",
            f"input.chunk.{name}",
        ]
        return self._random.choice(forms)

    def _negated(self) -> str:
        name, list_name = self._scalar(), self._list()
        field, constant = f"input.chunk.{name}", self._constant(name)
        forms = [
            f"not {field} {self._operator()} {constant}",
            f"not {field} in [{constant}]",
            f"not {field}",
            f"not {self._element_of(list_name)} in input.chunk.{list_name}",
            f"not {field} == {self._other_field(name)}",
            "not input.principal.clearance > 1",
        ]
        return self._random.choice(forms)

    def _junction(self) -> str:
        return f"{self._comparison()} {self._random.choice(('or', 'and'))} {self._comparison()}"

    def _negated_body(self) -> str:
        return f"not {{\n\t\t{self._comparison()}\n\t\t{self._membership().replace(chr(10), chr(10) + chr(9))}\n\t}}"

    # ------------------------------------------------------------ ambiguous where a field may be missing

    def _local(self) -> str:
        name, local = self._scalar(), self._fresh("local")
        tests = [f"{local} {self._operator()} {self._constant(name)}", f"not {local} {self._operator()} {self._constant(name)}"]
        return f"{local} := input.chunk.{name}\n\t" + "\n\t".join(self._random.sample(tests, self._random.randint(1, 2)))

    def _element(self) -> str:
        name, item = self._list(), self._fresh("item")
        prefixes, operators = self._random.choice(((("",), ("==",)), (("", "not "), ("==", "!="))))
        values = [json.dumps(value) for value in LISTS[name]]
        tests = [f"{prefix}{item} {operator} {value}" for prefix in prefixes for operator in operators for value in values]
        return f"some {item} in input.chunk.{name}\n\t" + "\n\t".join(self._random.sample(tests, self._random.randint(1, 2)))

    def _text(self) -> str:
        name = self._random.choice(("tenant", "owner", "region"))
        builtin, known = self._random.choice(("startswith", "endswith", "contains")), self._random.choice(("a", "me", "", "\u0301", "e%"))
        return f"{self._random.choice(('', 'not '))}{builtin}(input.chunk.{name}, {json.dumps(known)})"

    # ------------------------------------------------------------ other types, and principals

    def _strange_constant(self) -> str:
        """Return a comparison with a value of another type, which Rego orders by type."""
        field = f"input.chunk.{self._random.choice((*SCALARS, *LISTS))}"
        constant = self._random.choice(("null", "true", "false", "2", '"2"', '""', "0.1", "-0.5", "1e300", str(2**53 + 1)))
        return self._random.choice(("", "", "not ")) + f"{field} {self._operator()} {constant}"

    def _of_principal(self) -> str:
        """Return a condition that partial evaluation must fold away, or fold into a known value."""
        forms = [
            "count(input.principal.teams) > 1",
            '"legal" in input.principal.roles',
            'lower(input.chunk.region) == "eu"' if self._wild else 'lower(input.principal.tenant) == "acme"',
            "input.chunk.region == input.principal.attrs.region",
            'input.chunk.region == object.get(input.principal.attrs, "region", "eu")',
            "input.chunk.level <= input.principal.clearance + 1",
            "not input.principal.attrs.region",
            'input.chunk.owner == sprintf("%s", [input.principal.id])',
            "input.chunk.level in {n | some n in [0, 1, 2, 3]; n <= input.principal.clearance}",
        ]
        return self._random.choice(forms)

    # ------------------------------------------------------------ beyond

    def _without_a_filter(self) -> str:
        scalar, names, item = self._scalar(), self._list(), self._fresh("item")
        field, listed = f"input.chunk.{scalar}", f"input.chunk.{names}"
        element = self._element_of(names)
        forms = [
            f"count({listed}) {self._operator()} {self._random.randint(0, 2)}",
            f"not count({listed}) == 0",
            f"every {item} in {listed} {{ {item} in input.principal.teams }}",
            f"count({{t | some t in {listed}}} & {{{element}}}) > 0",
            f"{element} in {{t | some t in {listed}}}",
            'upper(input.chunk.region) == "EU"',
            'regex.match("^a", input.chunk.tenant)',
            f"input.chunk.level + 1 {self._operator()} input.principal.clearance",
            'object.get(input.chunk, "region", "eu") == "eu"',
            f"is_string({field})",
            f"type_name({field}) == {json.dumps(self._random.choice(('string', 'number', 'null')))}",
            f"{listed} == [{element}]",
            f"{listed}[0] == {element}",
            f"some {item}\n\t{listed}[{item}] == {element}\n\tinput.chunk.labels[{item}] == {self._element_of('labels')}",
            f"some {item}\n\tinput.chunk[{item}] == {self._constant(scalar)}",
            f"some {item} in {listed}\n\t{item} {self._operator()} {element}",
            f"input.chunk.teams {self._operator()} input.chunk.labels",
            f"{field} in {listed}",
            "startswith(input.chunk.tenant, input.chunk.region)",
            f"input.chunk.meta.deep {self._operator()} 1",
            'input.chunk.nowhere == "x"',
            f"walk(input.chunk, [_, {item}])\n\t{item} == {self._constant(scalar)}",
            "max([input.chunk.level, 2]) == 2",
            f"input.chunk {self._operator()} {{}}",
            f"{field} {self._operator()} {self._constant(scalar)} with input.chunk.{scalar} as {self._constant(scalar)}",
            f"{field} == {{{self._constant(scalar)}, {self._constant(scalar)}}}[_]",
        ]
        return self._random.choice(forms)

    # ------------------------------------------------------------ pieces

    def _comparison(self) -> str:
        name = self._scalar()
        return f"input.chunk.{name} {self._operator()} {self._constant(name)}"

    def _fresh(self, stem: str) -> str:
        self._locals += 1
        return f"{stem}{self._locals}"

    def _scalar(self) -> str:
        return self._random.choice(list(SCALARS))

    def _other_field(self, name: str) -> str:
        # A field compared with itself folds to a test of truth in OPA, which nothing downstream can tell.
        return "input.chunk." + self._random.choice([other for other in SCALARS if other != name])

    def _list(self) -> str:
        return self._random.choice(list(LISTS))

    def _operator(self) -> str:
        return self._random.choice(_OPERATORS)

    def _constant(self, name: str) -> str:
        return json.dumps(self._random.choice(SCALARS[name]))

    def _element_of(self, name: str) -> str:
        return json.dumps(self._random.choice(LISTS[name]))


def as_json(policy: RandomPolicy) -> Mapping[str, object]:
    """Return the policy as a counterexample file holds it."""
    rules = [{"head": rule.head, "conditions": list(rule.conditions), "otherwise": rule.otherwise} for rule in policy.rules]
    return {"modern": policy.modern, "rules": rules}
