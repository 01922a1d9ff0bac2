"""What a team may write as its own `deny`, and what becomes of it where policies are loaded: the tables of
`test_acceptance.py`.

Each is a module below its `package`. `ROW` stands for the row, of which only fields are named that every row
has, and `HERE` for the package. Before the `|` stand the line that is refused and the code that it is refused
with.
"""

from __future__ import annotations

from typing import Final

WIDE: Final[dict[str, str]] = {
    "a function of the row": """3 no-functions|deny if _near(ROW.owner)

_near(x) := true if x == "bob"

_near(x) := false if x == "eve"
""",
    "and a second body": """3 no-functions|deny if _near(ROW.owner)

deny if ROW.tenant == "globex"

_near(x) := true if x == "bob"

_near(x) := false if x == "eve"
""",
    "a function of an element under another name": """3 no-functions|deny if {
	some label in ROW.labels
	same := label
	_near(same)
}

_near(x) := true if x == "pii"

_near(x) := false if x == "secret"
""",
    "a function of a field taken apart": """3 no-functions|deny if {
	[owner] = [ROW.owner]
	_near(owner)
}

_near(x) := true if x == "bob"

_near(x) := false if x == "eve"
""",
    "a function of the row by an import": """5 no-functions|import ROW as row

deny if _near(row.owner)

_near(x) := true if x == "bob"

_near(x) := false if x == "eve"
""",
    "a function by the name of an operator": """3 no-functions|deny if startswith(ROW.owner, "b")

startswith(x, _) := true if x == "bob"

startswith(_, y) := false if y == "b"
""",
    "a function of what is known": """8 may-contradict|deny if {
	ROW.owner == "bob"
	_low(input.principal.clearance)
}

_low(x) := true if x < 2

_low(x) := false if x > 0
""",
    "a value of what is known": """8 may-contradict|deny if {
	_most == 1
	ROW.owner == "bob"
}

_most := 1 if input.principal.clearance < 2

_most := 2 if input.principal.clearance > 0
""",
    "a value out of a list": """5 may-contradict|deny if ROW.owner == _team

_team := team if some team in input.principal.teams
""",
    "a value of a position in a list": """5 may-contradict|deny if ROW.owner == _team

_team := input.principal.teams[_]
""",
    "a function out of a list": """5 may-contradict|deny if ROW.owner == _one_of(input.principal)

_one_of(p) := p.teams[i] if p.teams[i] != "x"
""",
    "an object with two values for a key": """5 may-contradict|deny if ROW.owner == _named.a

_named["a"] := "bob" if input.principal.clearance < 2

_named["a"] := "eve" if input.principal.clearance > 0
""",
    "an object with a value for each of a list": """5 may-contradict|deny if ROW.owner == _named.a

_named[key] := team if {
	some team in input.principal.teams
	key := "a"
}
""",
    "an object made in place": """4 may-contradict|deny if {
	named := {"a": team | some team in input.principal.teams}
	ROW.owner == named.a
}
""",
    "a rule of a library": """5 may-contradict|deny if ROW.owner == data.HERE.more.most

more.most := "bob" if input.principal.clearance < 2

more.most := "eve" if input.principal.clearance > 0
""",
    "a number that is none": """3 may-fail|deny if {
	to_number(input.principal.attrs.kind) == 1
	ROW.owner == "bob"
}
""",
    "a sum of what is no number": """3 may-fail|deny if {
	input.principal.attrs.kind + 1 == 2
	ROW.owner == "bob"
}
""",
    "a division by nothing": """3 may-fail|deny if {
	1 / (input.principal.clearance - 1) == 1
	ROW.owner == "bob"
}
""",
    "a text out of what is none": """3 may-fail|deny if {
	concat("-", [input.principal.attrs.level]) == "1"
	ROW.owner == "bob"
}
""",
    "a builtin in a rule behind the rule": """5 may-fail|deny if _barred

_barred if {
	lower(input.principal.attrs.level) == "x"
	ROW.owner == "bob"
}
""",
    "a builtin in a set": """5 may-fail|deny if ROW.owner in _barred

_barred contains lower(team) if some team in [input.principal.attrs.level, "bob"]
""",
    "a builtin in a function": """5 may-fail|deny if ROW.owner == _lowered(input.principal.attrs.level)

_lowered(x) := lower(x)
""",
    "a builtin beside what is sure": """3 may-fail|deny if {
	is_string(input.principal.attrs.kind)
	lower(input.principal.attrs.level) == "1"
	ROW.owner == "bob"
}
""",
}
"""Of each OPA makes a filter that is wider than the rule."""

REFUSED: Final[dict[str, str]] = {
    "else": """5 no-else|deny if _bad

_bad if {
	ROW.owner == "bob"
} else := false if ROW.tenant == "acme"
""",
    "a rule made false": """5 only-true-values|deny if _bad

_bad := false if ROW.owner == "bob"
""",
    "a prefix of what is no text": """3 may-fail|deny if {
	startswith(input.principal.attrs.level, "1")
	ROW.owner == "bob"
}
""",
    "a builtin behind two negations": """5 may-fail|deny if not _open

_open if {
	lower(input.principal.attrs.level) == "x"
	ROW.owner != "bob"
}
""",
    "a rule that is only ever false": """8 only-true-values|deny if {
	_bad
	ROW.owner == "bob"
}

_bad := false if input.now > 1
""",
    "with a known value": """3 no-with|deny if {
	_bad with input.now as 1
	ROW.owner == "bob"
}

_bad if input.now == 1
""",
    "with the row": """3 no-with|deny if _bad with input.now as ROW.owner

_bad if input.now == 1
""",
    "a negated package": """3 negate-named-rules|deny if not data.HERE.more

more.bad if ROW.owner == "bob"
""",
    "a rule of a package by a computed name": """3 computed-from-row|deny if {
	some name
	data.HERE.more[name] == true
}

more.bad if ROW.owner == "bob"
""",
    "a text made of the row": """3 computed-from-row|deny if $"{ROW.owner}!" == "bob!"
""",
    "a set made of the row": """3 computed-from-row|deny if {ROW.owner} == {"bob"}
""",
    "a look-up by the row": """3 computed-from-row|deny if {"bob": 1}[ROW.owner] == 1
""",
    "lists within a list": """3 computed-from-row|deny if ROW.owner in [["bob"], "eve"]
""",
    "an element tested twice": """5 element-tested-twice|deny if {
	some label in ROW.labels
	label == "a"
	label != "b"
}
""",
    "a rule that OPA leaves open, counted": """3 open-helper|deny if {
	count([1 | _late]) > 0
	ROW.owner == "bob"
}

_late if input.now > 1
""",
    "a rule that OPA leaves open, as a value": """3 open-helper|deny if {
	late := _late
	late == true
	ROW.owner == "bob"
}

_late if input.now > 1
""",
    "a set that rests on a rule that OPA leaves open": """5 open-helper|deny if ROW.owner in _barred

_barred contains "bob" if _late

_late if input.now > 1
""",
    "known things inside of `or`": """5 computed-from-row|import rego.v2

deny if ROW.owner == input.principal.id or ROW.owner == "bob"
""",
    "a local variable of the name of a rule": """3 negate-named-rules|deny if {
	count([_bad | some _bad in input.principal.teams]) > 0
	not _bad("x")
}

_bad(x) if ROW.owner == x
""",
}
"""Refused as well: OPA leaves of them what no filter is made of, or nothing shows that it always will."""

SERVED: Final[dict[str, str]] = {
    "a value with else": """0 |deny if ROW.owner == _most

_most := "bob" if {
	input.principal.clearance > 1
} else := "eve"
""",
    "a value with a default": """0 |deny if ROW.owner == _most

default _most := "bob"

_most := input.principal.id if input.now > 1
""",
    "a function of distinct arguments": """0 |deny if ROW.owner == _of(input.principal.tenant)

_of("acme") := "bob"

_of("globex") := "eve"
""",
    "a function with a default": """0 |deny if ROW.owner == _of(input.principal.tenant)

default _of(_) := "eve"

_of("acme") := "bob"
""",
    "a set": """0 |deny if ROW.owner in _barred

_barred contains team if some team in input.principal.teams

_barred contains "bob"
""",
    "what a test has made sure": """0 |deny if {
	is_string(input.principal.attrs.kind)
	startswith(input.principal.attrs.kind, "x")
	ROW.owner == "bob"
}
""",
    "what a test has made sure, under a name": """0 |deny if {
	kind := input.principal.attrs.kind
	is_string(kind)
	lower(kind) == "x"
	ROW.owner == "bob"
}
""",
    "builtins of what has its type": """0 |deny if {
	concat("/", input.principal.teams) == "hr/eng"
	count(input.principal.teams) > input.principal.clearance - 1
	sprintf("%s", [lower(input.principal.id)]) == "ann"
	ROW.owner == "bob"
}
""",
    "an attribute that may be missing": """0 |deny if not _fits

_fits if ROW.owner == object.get(input.principal.attrs, "kind", "x")
""",
    "a library": """0 |import data.HERE.more

deny if not more.fits

deny if more.bad
""",
    "a rule compared with true": """0 |deny if _bad == true

_bad if ROW.owner == "bob"
""",
    "what another action does": """0 |deny if {
	input.action == "store.create"
	regex.match("^x", input.name)
	count({"a": name | some name in input.principal.teams}) == 1
}
""",
    "what another action does, by a rule": """0 |deny if {
	_making
	to_number(input.name) == 1
}

_making if input.action in {"store.create", "file.create"}
""",
}
"""Nothing can go wrong in these, so their filter is the rule."""

MORE: Final = """package data.HERE.more

fits if ROW.owner == input.principal.id

bad if ROW.tenant == "globex"
"""
"""A library beside those that import it."""
