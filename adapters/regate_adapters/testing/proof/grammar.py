"""Random policies: chunk rules that are always valid Rego, of a grammar wider than what filters can express.

Which of them may serve and which translate is not known here: the load check, the translator and the stores
say so, and the proof (`__main__.py`) compares what they accept with full evaluation. What a policy is made of
is in `text.py`, rules beyond plain ones in `rules.py`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Literal, TypeAlias

from regate_adapters.testing.proof.rows import LISTS, SCALARS
from regate_adapters.testing.proof.rules import Member, Members
from regate_adapters.testing.proof.text import RandomPolicy, Rule

Form: TypeAlias = Literal["ambiguous", "beyond", "rules"]
"""What a grammar may write besides the fragment: `ambiguous`, what partial evaluation makes ambiguous where
fields may be missing; `beyond`, what has no filter at all, or in some stores only; `rules`, rules beyond
plain ones, and then most policies are otherwise written as authors should.
"""

_OPERATORS: Final = ("==", "!=", "<", "<=", ">", ">=")


class Grammar:
    """Writes random policies: of the fragment, and of whatever else `forms` names."""

    def __init__(self, seed: str | int, *, modern: bool, forms: frozenset[Form]) -> None:
        self._random = random.Random(seed)  # noqa: S311 — repeatable, not secret
        self._modern = modern
        self._ambiguous = "ambiguous" in forms
        self._beyond = "beyond" in forms
        self._locals = 0
        self._careful = "rules" in forms and self._random.random() < 0.7
        """Written as authors should, with one exception at most: what the load check overlooks is then
        not hidden behind what it refuses.
        """
        self._wild = self._beyond and not self._careful and self._random.random() < 0.35
        """Most policies stay inside the fragment even so: one form that has no filter makes the whole
        policy have none.
        """
        self._members = Members(self._random) if "rules" in forms else None
        self._imports: dict[str, None] = {}

    def policy(self) -> RandomPolicy:
        """Return one policy: an `allow`, and helpers that it and each other may use."""
        rules: list[Rule] = []
        helpers: list[str] = []
        for name in ("one", "two"):
            rules += self._helper(name, helpers)
            helpers.append(name)
        if self._beyond and not self._careful and self._random.random() < 0.2:
            rules.append(Rule("low(row)", (f"row.level {self._operator()} {self._constant('level')}",)))
            helpers.append("low(input.chunk)")
        if self._random.random() < 0.2:
            rules.append(Rule("default allow := false"))
        rules += [self._rule("allow", helpers) for _ in range(self._random.randint(1, 2))]
        for member in self._some_members():
            rules = self._with_member(rules, member)
        if self._careful and self._random.random() < 0.25:
            rules = self._with_condition(rules, self._careless_condition([]))
        return RandomPolicy(self._modern, tuple(rules), tuple(self._imports))

    # ------------------------------------------------------------ rules

    def _some_members(self) -> list[Member]:
        if self._members is None:
            return []
        found = [self._members.careful() for _ in range(self._random.randint(0, 2))]
        if self._random.random() < 0.35:
            found.append(self._members.careless())
        return found

    def _with_member(self, rules: list[Rule], member: Member) -> list[Rule]:
        self._imports.update(dict.fromkeys(member.imports))
        return self._with_condition(
            [*member.rules, *rules], self._random.choice(member.conditions), among=len(member.rules)
        )

    def _with_condition(self, rules: list[Rule], condition: str, *, among: int = 0) -> list[Rule]:
        """Return the rules with the condition in one of them, not of the first: a new `deny` that
        `allow` negates, or a body that is there.
        """
        if self._random.random() < 0.5:
            name = self._fresh("deny")
            denying = [
                Rule(name, (condition,)),
                *([Rule(name, (self._condition([]),))] if self._random.random() < 0.4 else []),
            ]
            return [
                *denying,
                *(self._also(rule, f"not {name}") if rule.head == "allow" else rule for rule in rules),
            ]
        bodies = [
            position
            for position, rule in enumerate(rules)
            if position >= among and rule.conditions and not rule.shared
        ]
        chosen = self._random.choice(bodies)
        return [
            self._also(rule, condition) if position == chosen else rule for position, rule in enumerate(rules)
        ]

    def _also(self, rule: Rule, condition: str) -> Rule:
        conditions = list(rule.conditions)
        conditions.insert(self._random.randint(0, len(conditions)), condition)
        return replace(rule, conditions=tuple(conditions))

    def _helper(self, name: str, helpers: list[str]) -> list[Rule]:
        chance = self._random.random()
        bodies = range(self._random.randint(1, 2))
        if chance < 0.3 and not self._careful:
            return [Rule(f"default {name} := false"), *(self._rule(name, helpers) for _ in bodies)]
        if chance < 0.4 and not self._careful:
            return [
                Rule(f"default {name} := true"),
                *(self._rule(f"{name} := false", helpers) for _ in bodies),
            ]
        rules = [self._rule(name, helpers) for _ in bodies]
        if self._wild and chance < 0.5:
            value = self._random.choice(("true", "false"))
            rules = [replace(rules[0], otherwise=f" else := {value} if {self._comparison()}")]
        return rules

    def _rule(self, head: str, helpers: list[str]) -> Rule:
        return Rule(head, tuple(self._condition(helpers) for _ in range(self._random.randint(1, 3))))

    def _condition(self, helpers: list[str]) -> str:
        return self._careful_condition(helpers) if self._careful else self._careless_condition(helpers)

    def _careless_condition(self, helpers: list[str]) -> str:
        kinds: list[Callable[[], str]] = [self._atom] * 6 + [self._negated] * 2 + [self._membership] * 3
        if helpers:
            kinds += [lambda: self._random.choice(("", "not ")) + self._random.choice(helpers)] * 3
        if self._modern:
            kinds += [self._junction, self._negated_body]
        if self._ambiguous:
            kinds += [self._local, self._text, self._element]
        if self._beyond:
            kinds += [self._strange_constant, self._of_principal]
        if self._wild or self._careful:
            kinds += [self._without_a_filter] * 2
        return self._random.choice(kinds)()

    def _careful_condition(self, helpers: list[str]) -> str:
        kinds: list[Callable[[], str]] = [self._said] * 6 + [self._listed] * 3
        if helpers:
            kinds += [lambda: self._random.choice(("", "not ")) + self._random.choice(helpers)] * 4
        if self._modern:
            kinds += [self._junction]
        if self._ambiguous:
            kinds += [self._asked_text]
        return self._random.choice(kinds)()

    # ------------------------------------------------------------ as authors should write

    def _said(self) -> str:
        name, operator = self._scalar(), self._operator()
        field, constant = f"input.chunk.{name}", self._constant(name)
        forms = [
            f"{field} {operator} {constant}",
            f"{field} in [{constant}, {self._constant(name)}]",
            f"input.chunk.level {operator} input.principal.clearance",
            f"input.chunk.tenant {operator} input.chunk.owner",
            "input.chunk.tenant == input.principal.tenant",
            "input.chunk.owner == input.principal.id",
            "input.chunk.owner in input.principal.teams",
            "input.chunk.region == input.principal.attrs.region",
            f'input.chunk.region {operator} object.get(input.principal.attrs, "region", "eu")',
            f"input.principal.clearance {operator} 1",
            '"legal" in input.principal.roles',
            'not "legal" in input.principal.roles',
            "input.chunk.level in {n | some n in [0, 1, 2, 3]; n <= input.principal.clearance}",
            'every t in input.principal.teams { t != "ops" }',
            "input.chunk.hold",
        ]
        return self._random.choice(forms)

    def _listed(self) -> str:
        name, item = self._list(), self._fresh("item")
        constant = self._element_of(name)
        forms = [
            f"{constant} in input.chunk.{name}",
            f"input.principal.id in input.chunk.{name}",
            f"input.chunk.{name}[_] == {constant}",
            f"some {item} in input.chunk.{name}\n\t{item} in input.principal.teams",
            f"some {item} in input.chunk.{name}\n\t{item} == {constant}",
            f"some {item} in input.chunk.{name}",
        ]
        return self._random.choice(forms)

    def _asked_text(self) -> str:
        name = self._random.choice(("tenant", "owner", "region"))
        builtin, known = (
            self._random.choice(("startswith", "endswith", "contains")),
            self._random.choice(('"a"', '""', "input.principal.id")),
        )
        return f"{builtin}(input.chunk.{name}, {known})"

    # ------------------------------------------------------------ the fragment

    def _atom(self) -> str:
        name, operator = self._scalar(), self._operator()
        field, constant = f"input.chunk.{name}", self._constant(name)
        forms = [
            f"{field} {operator} {constant}",
            # A line that begins with a negative number is subtracted from the line before; parentheses do not
            # survive `opa build`.
            f"{constant} {operator} {field}"
            if not constant.startswith("-")
            else f"{field} {operator} {constant}",
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
        return (
            "not "
            f"{{\n\t\t{self._comparison()}\n\t\t{self._membership().replace(chr(10), chr(10) + chr(9))}\n\t}}"
        )

    # ------------------------------------------------------------ ambiguous where a field may be missing

    def _local(self) -> str:
        name, local = self._scalar(), self._fresh("local")
        tests = [
            f"{local} {self._operator()} {self._constant(name)}",
            f"not {local} {self._operator()} {self._constant(name)}",
        ]
        return f"{local} := input.chunk.{name}\n\t" + "\n\t".join(
            self._random.sample(tests, self._random.randint(1, 2))
        )

    def _element(self) -> str:
        name, item = self._list(), self._fresh("item")
        prefixes, operators = self._random.choice(((("",), ("==",)), (("", "not "), ("==", "!="))))
        values = [json.dumps(value) for value in LISTS[name]]
        tests = [
            f"{prefix}{item} {operator} {value}"
            for prefix in prefixes
            for operator in operators
            for value in values
        ]
        return f"some {item} in input.chunk.{name}\n\t" + "\n\t".join(
            self._random.sample(tests, self._random.randint(1, 2))
        )

    def _text(self) -> str:
        name = self._random.choice(("tenant", "owner", "region"))
        builtin, known = (
            self._random.choice(("startswith", "endswith", "contains")),
            self._random.choice(("a", "me", "", "\u0301", "e%")),
        )
        return f"{self._random.choice(('', 'not '))}{builtin}(input.chunk.{name}, {json.dumps(known)})"

    # ------------------------------------------------------------ other types, and principals

    def _strange_constant(self) -> str:
        """Return a comparison with a value of another type, which Rego orders by type."""
        field = f"input.chunk.{self._random.choice((*SCALARS, *LISTS))}"
        constant = self._random.choice(
            ("null", "true", "false", "2", '"2"', '""', "0.1", "-0.5", "1e300", str(2**53 + 1))
        )
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
            (
                f"some {item}\n\t{listed}[{item}] == {element}\n\tinput.chunk.labels[{item}] == "
                f"{self._element_of('labels')}"
            ),
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
            (
                f"{field} {self._operator()} {self._constant(scalar)} with input.chunk.{scalar} as "
                f"{self._constant(scalar)}"
            ),
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
