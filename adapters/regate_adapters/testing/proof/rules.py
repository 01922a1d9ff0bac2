"""Rules beyond plain ones, for the grammar: functions, objects, values, `default` and `else`, what
contradicts itself and what may fail.

Each *member* is some rules and the conditions that use them. A careful one is written so that nothing can go
wrong; a careless one may have two values at once, or a builtin that cannot take what it is given: OPA keeps
that to itself under a negation, and the filter would be too wide. The load check must refuse every careless
member that matters, and the proof tries whatever it does not refuse.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from regate_adapters.testing.proof.text import Rule, named_in_package


@dataclass(frozen=True, slots=True)
class Member:
    """Rules, and conditions for the rules that use them. `imports` are what the module must import."""

    rules: tuple[Rule, ...]
    conditions: tuple[str, ...]
    imports: tuple[str, ...] = ()


_LIBRARY: Final = f"{named_in_package('lib')} as shared"
_TEAM: Final = "some team in input.principal.teams"


class Members:
    """Makes members. Their rules are told apart by a number, so a policy may have several of one kind."""

    def __init__(self, source: random.Random) -> None:
        self._random = source
        self._made = 0

    def careful(self) -> Member:
        """Return a member in which nothing can go wrong."""
        return self._one_of(
            (
                self._else,
                self._default,
                self._apart,
                self._set,
                self._guarded,
                self._library,
                self._full_path,
                self._sure,
            )
        )

    def careless(self) -> Member:
        """Return a member in which something may."""
        return self._one_of(
            (
                *(
                    self._function_of_row,
                    self._function_of_known,
                    self._values,
                    self._going_through,
                    self._partial_object,
                    self._comprehension,
                ),
                *(
                    self._true_and_false,
                    self._failing,
                    self._failing_within,
                    self._under_with,
                    self._of_package,
                    self._imported_row,
                ),
                *(
                    self._alias,
                    self._shadowing,
                    self._head_elsewhere,
                    self._else_of_row,
                    self._default_function,
                    self._only_false,
                ),
                *(self._resting, self._operator, self._conflict_in_library),
            )
        )

    def _one_of(self, kinds: Sequence[Callable[[str], Member]]) -> Member:
        self._made += 1
        return self._random.choice(kinds)(f"m{self._made}")

    def _pick(self, *options: str) -> str:
        return self._random.choice(options)

    # ------------------------------------------------------------ nothing can go wrong

    def _else(self, name: str) -> Member:
        otherwise = " else := 1 if {\n\tinput.principal.clearance > 0\n} else := 0"
        rule = Rule(f"{name} := 2", ("input.principal.clearance > 1",), otherwise)
        return Member((rule,), (f"input.chunk.level {self._pick('<=', '>', '==')} {name}",))

    def _default(self, name: str) -> Member:
        rules = (
            Rule(f"default {name} := 1"),
            Rule(f"{name} := input.principal.clearance", ('"hr" in input.principal.teams',)),
        )
        return Member(rules, (f"input.chunk.level {self._pick('<=', '>')} {name}",))

    def _apart(self, name: str) -> Member:
        rules = (Rule(f'{name}("ann") := 2'), Rule(f'{name}("bob") := 1'))
        return Member(rules, (f"input.chunk.level {self._pick('<=', '>')} {name}(input.principal.id)",))

    def _set(self, name: str) -> Member:
        rule = Rule(f"{name} contains team", (_TEAM, 'team != "ops"'))
        return Member(
            (rule,),
            (f"some e{name} in input.chunk.teams\n\te{name} in {name}", f"input.chunk.owner in {name}"),
        )

    def _guarded(self, name: str) -> Member:
        region = "input.principal.attrs.region"
        rule = Rule(name, (f"is_string({region})", f'startswith({region}, "e")', "input.chunk.hold == true"))
        return Member((rule,), (name, f"not {name}"))

    def _library(self, name: str) -> Member:
        rule = Rule(name, (f"input.chunk.level {self._pick('<', '>=', '==')} 2",), shared=True)
        return Member((rule,), (f"shared.{name}", f"not shared.{name}"), (_LIBRARY,))

    def _full_path(self, name: str) -> Member:
        rule = Rule(name, ("input.chunk.hold == false",))
        return Member((rule,), (named_in_package(name), f"not {named_in_package(name)}"))

    def _sure(self, name: str) -> Member:
        test = self._pick(
            "count(input.principal.teams) > 1",
            'lower(input.principal.tenant) == "acme"',
            'concat("-", input.principal.teams) == "hr"',
            "input.principal.clearance + 1 > 2",
            'count({t | some t in input.principal.teams; t != "hr"}) == 1',
            'sprintf("%s-%d", [input.principal.id, input.principal.clearance]) == "ann-1"',
            'count(split(replace(input.principal.id, "n", "-"), "-")) > 1',
            "max(array.concat([0], [input.principal.clearance])) > 0",
            'count({"hr", "eng"} & {t | some t in input.principal.teams}) == 1',
            '"region" in object.keys(input.principal.attrs)',
            'trim_prefix(type_name(input.principal.attrs.region), "s") == "tring"',
            "abs(floor(input.principal.clearance - 2)) == 1",
            "count(sort(input.principal.teams)) * 2 > 2",
        )
        return Member((Rule(name, (test, "input.chunk.level >= 1")),), (name, f"not {name}"))

    # ------------------------------------------------------------ something may

    def _function_of_row(self, name: str) -> Member:
        rules = (Rule(f"{name}(x) := true", ('x == "eu"',)), Rule(f"{name}(x) := false", ('x == "us"',)))
        return Member(rules, (f"{name}(input.chunk.region)", f"not {name}(input.chunk.region)"))

    def _function_of_known(self, name: str) -> Member:
        rules = (
            Rule(f"{name}(x) := true", ("x > 0",)),
            Rule(f"{name}(x) := {self._pick('true', 'false')}", ("x < 3",)),
        )
        return Member(rules, (f"{name}(input.principal.clearance)", f"not {name}(input.principal.clearance)"))

    def _values(self, name: str) -> Member:
        rules = (
            Rule(f"{name} := 1", ("input.principal.clearance > 0",)),
            Rule(f"{name} := 2", ("input.principal.clearance < 3",)),
        )
        return Member(rules, (f"input.chunk.level <= {name}", f"{name} == 1"))

    def _going_through(self, name: str) -> Member:
        return Member(
            (Rule(f"{name} := team", (_TEAM,)),),
            (f"{name} in input.chunk.teams", f"input.chunk.owner != {name}"),
        )

    def _partial_object(self, name: str) -> Member:
        rules = (
            Rule(f"{name}[team] := 1", (_TEAM,)),
            Rule(f"{name}[team] := 2", (_TEAM, "input.principal.clearance > 1")),
        )
        return Member(rules, (f"input.chunk.level <= {name}.hr", f'{name}["eng"] == 1'))

    def _comprehension(self, name: str) -> Member:
        made = f'{{"a": team | {_TEAM}}}'
        return Member((), (f"{name} := {made}\n\t{name}.a in input.chunk.teams", f"count({made}) == 1"))

    def _true_and_false(self, name: str) -> Member:
        rules = (
            Rule(name, ("input.chunk.hold == true",)),
            Rule(f"{name} := false", ("input.chunk.level == 1",)),
        )
        return Member(rules, (name, f"not {name}", f"{name} == true"))

    def _failing(self, name: str) -> Member:
        region = "input.principal.attrs.region"
        test = self._pick(
            f"to_number({region}) > 1",
            f"{region} + 1 > 2",
            f'startswith({region}, "e")',
            f"count({region}) == 2",
            "1 / (input.principal.clearance - 1) > 0",
            f"input.chunk.level <= {region} + 1",
            f"startswith(input.chunk.owner, {region})",
            f'object.get({region}, "x", 1) == 1',
            f'concat(",", [{region}, "x"]) == "eu,x"',
        )
        return Member(
            (), (test, f"{name} := {region}\n\t{test.replace(region, name)}" if region in test else test)
        )

    def _failing_within(self, name: str) -> Member:
        test = self._pick(
            'lower(input.principal.attrs.region) == "eu"', "abs(input.principal.attrs.region) == 1"
        )
        rule = Rule(name, (test, "input.chunk.level == 2"))
        return Member((rule,), (name, f"not {name}"))

    def _under_with(self, name: str) -> Member:
        rule = Rule(name, (f"input.principal.clearance {self._pick('>', '<')} 1",))
        return Member(
            (rule,),
            (
                f"{name} with input.principal.clearance as 2",
                f"{name} with input.principal.clearance as input.chunk.level",
            ),
        )

    def _of_package(self, name: str) -> Member:
        rules = (
            Rule(name, ("input.chunk.level == 2",), shared=True),
            Rule(f"{name}_too", ("input.chunk.hold == true",), shared=True),
        )
        library = named_in_package("lib")
        uses = (
            f"not {library}",
            library,
            f"some n{name}\n\t{library}[n{name}] == true",
            f"not {library}[input.principal.id]",
        )
        return Member(rules, (self._pick(*uses), f"not shared.{name}"), (_LIBRARY,))

    def _imported_row(self, name: str) -> Member:
        rules = (Rule(f"{name}(x) := true", ("x == 2",)), Rule(f"{name}(x) := false", ("x == 0",)))
        return Member(rules, (f"{name}(row.level)", "row.hold == true"), ("input.chunk as row",))

    def _alias(self, name: str) -> Member:
        rules = (Rule(f"{name}(x) := true", ('x == "hr"',)), Rule(f"{name}(x) := false", ('x == "eng"',)))
        element = f"some e{name} in input.chunk.teams\n\tf{name} := e{name}\n\t{name}(f{name})"
        return Member(
            rules,
            (element, f"[f{name}] = [input.chunk.owner]\n\t{name}(f{name})", f"{name}(input.chunk.teams[_])"),
        )

    def _shadowing(self, name: str) -> Member:
        rules = (
            Rule(f"{name} := true", ("input.chunk.level == 2",)),
            Rule(f"{name} := false", ("input.chunk.hold == true",)),
        )
        return Member(rules, (f"{name}\n\tcount([{name} | some {name} in input.principal.teams]) >= 0",))

    def _head_elsewhere(self, name: str) -> Member:
        """A rule of the library that is written in the policy's own package, by a head of several parts."""
        rules = (
            Rule(name, ("input.chunk.level == 2",), shared=True),
            Rule(f"lib.{name} := {self._pick('true', 'false')}", ("input.chunk.hold == true",)),
        )
        return Member(rules, (named_in_package(f"lib.{name}"), f"not {named_in_package(f'lib.{name}')}"))

    def _else_of_row(self, name: str) -> Member:
        rule = Rule(
            name,
            ("input.chunk.level == 2",),
            f" else := {self._pick('true', 'false')} if {{\n\tinput.chunk.hold\n}}",
        )
        return Member((rule,), (name, f"not {name}"))

    def _default_function(self, name: str) -> Member:
        rules = (Rule(f"default {name}(_) := {self._pick('0', '2')}"), Rule(f"{name}(x) := 1", ("x > 1",)))
        return Member(
            rules,
            (f"input.chunk.level == {name}(input.principal.clearance)", f"{name}(input.chunk.level) == 1"),
        )

    def _only_false(self, name: str) -> Member:
        rule = Rule(
            f"{name} := false", (self._pick("input.principal.clearance > 1", "input.chunk.level == 1"),)
        )
        return Member((rule,), (name, f"not {name}", f"{name} == false", f"{name} != true"))

    def _resting(self, name: str) -> Member:
        """What is known, and rests on a rule that OPA leaves open."""
        rules = (
            Rule(name, ("input.principal.clearance > 0",)),
            Rule(f"{name}_of contains team", (name, _TEAM)),
        )
        uses = (
            f"count([1 | {name}]) > 0",
            f"x{name} := {name}\n\tx{name} == input.chunk.hold",
            f"input.chunk.owner in {name}_of",
            f"[{name}] == [true]",
        )
        return Member(
            rules,
            (*uses, f"every t in input.principal.teams {{\n\t\t{name}\n\t\tt != input.chunk.owner\n\t}}"),
        )

    def _operator(self, name: str) -> Member:
        """A rule with the name of a builtin takes its place in the whole package."""
        rules = (
            Rule("startswith(a, _) := true", ('a == "ann"',)),
            Rule("startswith(_, b) := false", ('b == "a"',)),
        )
        return Member(
            rules, ('startswith(input.chunk.owner, "a")', f'not startswith(input.chunk.owner, "{name}")')
        )

    def _conflict_in_library(self, name: str) -> Member:
        rules = (
            Rule(f"{name} := true", ("input.principal.clearance > 0",), shared=True),
            Rule(f"{name} := false", ("input.principal.clearance < 3",), shared=True),
        )
        return Member(
            rules, (f"shared.{name}", f"not shared.{name}", f"not shared.{name} == false"), (_LIBRARY,)
        )
