"""One wrong policy per trap and authoring rule: refused, at its line, with the code and words that
help. And the shipped ones are not.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.gateway.workbench.conftest import Write

from regate_adapters.opa.acceptance.findings import Finding
from regate_adapters.opa.acceptance.judging import authoring_findings
from regate_gateway.workbench.check.checks import read_schemas
from regate_gateway.workbench.check.parsing import parse_policies
from regate_gateway.workbench.opa_command import OpaCommand

HEAD = """package regate.chunk

import data.regate.lib.labels

default allow := false

"""

# what is wrong -> the policy below HEAD, the line at fault there, the code, words of the advice
WRONG: dict[str, tuple[str, int, str, str]] = {
    "trap 1: a position in the row": (
        'allow if input.chunk[0] == "x"',
        1,
        "indexed-reference",
        "input.chunk.<field>",
    ),
    "trap 1: a position in a list": (
        'allow if input.chunk.teams[0] == "x"',
        1,
        "indexed-reference",
        "x in input.chunk.teams",
    ),
    "trap 2: a variable for a field": (
        'allow if {\n\tt := input.chunk.tenant\n\tt == "acme"\n\tt != "x"\n}',
        2,
        "aliased-field",
        "write the field itself",
    ),
    "trap 2: a variable for a field, by unification": (
        'allow if {\n\tt = input.chunk.tenant\n\tt == "a"\n}',
        2,
        "aliased-field",
        "tenant",
    ),
    "trap 3: made false": (
        'allow if input.chunk.visibility == "tenant"\n\nallow := false if input.chunk.legal_hold == true',
        3,
        "only-true-values",
        "as a named rule and `not` it",
    ),
    "trap 3: a helper made false": (
        "allow if open\n\nopen := false if input.chunk.legal_hold == true",
        3,
        "only-true-values",
        "open",
    ),
    "trap 4: a comparison negated": (
        "allow if {\n\tnot input.chunk.level > 3\n}",
        2,
        "negate-named-rules",
        "named rule",
    ),
    "trap 4: an equality negated": (
        'allow if not input.chunk.tenant == "evil"',
        1,
        "negate-named-rules",
        "write `not <rule>`",
    ),
    "trap 4: a field negated": ("allow if not input.chunk.legal_hold", 1, "negate-named-rules", "missing"),
    "trap 4: a membership negated": (
        'allow if not "x" in input.chunk.labels',
        1,
        "negate-named-rules",
        "named rule",
    ),
    "trap 5: a null test": ("allow if input.chunk.embargo_until == null", 1, "null-test", "never null"),
    "trap 5: a null test, mirrored": (
        "allow if null != input.chunk.embargo_until",
        1,
        "null-test",
        "stamped",
    ),
    "trap 6: an order across types": ('allow if input.chunk.level <= "3"', 1, "type-mismatch", "is a number"),
    "trap 6: an order across types, of the principal": (
        "allow if input.chunk.visibility <= input.principal.clearance",
        1,
        "type-mismatch",
        "order of types",
    ),
    "trap 6: a list in a set": (
        'allow if input.chunk.teams in {"hr"}',
        1,
        "type-mismatch",
        "some x in input.chunk.teams",
    ),
    "trap 6: a list compared with a name": (
        'allow if input.chunk.teams == "hr"',
        1,
        "type-mismatch",
        "value in",
    ),
    "trap 7: a field in a field": (
        "allow if input.chunk.owner in input.chunk.teams",
        1,
        "field-in-field",
        "known value",
    ),
    "trap 8: an unbound key": (
        'allow if {\n\tsome k\n\tinput.chunk[k] == "v"\n}',
        3,
        "unbound-key",
        "input.chunk.<field>",
    ),
    "trap 8: a computed key": (
        'allow if input.chunk[concat(":", ["team", "hr"])] == true',
        1,
        "unbound-key",
        "computed",
    ),
    "trap 8: a computed key of the input": (
        'allow if input[input.action].owner == "x"',
        1,
        "unbound-key",
        "input.<name>",
    ),
    "trap 8: a position beside an element": (
        "allow if {\n\tsome i, t in input.chunk.teams\n\tt == input.action\n}",
        2,
        "unbound-key",
        "some x in",
    ),
    "trap 9: a self-comparison": (
        "allow if input.chunk.owner == input.chunk.owner",
        1,
        "self-comparison",
        "leave it out",
    ),
    "trap 10: a default on a helper": (
        "allow if open\n\ndefault open := false\n\nopen if input.chunk.legal_hold == false",
        3,
        "default-on-helper",
        "leave it out",
    ),
    "trap 11: a builtin that may fail": (
        "allow if not denied\n\ndenied if time.parse_rfc3339_ns(input.chunk.owner) > 5",
        3,
        "computed-from-row",
        "stamp what it computes",
    ),
    "an allowing default": ("", -2, "only-true-values", "must be false"),
    "a value of the row": (
        "allow := input.chunk.legal_hold",
        1,
        "only-true-values",
        "only ever be made true",
    ),
    "a set of reasons": (
        'allow if count(deny) == 0\n\ndeny contains "held" if input.chunk.legal_hold == true',
        3,
        "only-true-values",
        "is a set",
    ),
    "an else": (
        (
            "allow if open\n\nopen if {\n\tinput.chunk.level == 0\n} else := true if "
            '{\n\tinput.chunk.visibility == "tenant"\n}'
        ),
        3,
        "no-else",
        "definition of open of its own",
    ),
    "a function of the row": (
        'allow if same(input.chunk)\n\nsame(c) if c.tenant == "acme"',
        1,
        "no-functions",
        "without arguments",
    ),
    "a function of the whole input": (
        "allow if same(input)\n\nsame(i) if i.chunk.tenant == i.principal.tenant",
        1,
        "no-functions",
        "same",
    ),
    "a function that reads the row": (
        "allow if below(3)\n\nbelow(n) if input.chunk.level < n",
        3,
        "no-functions",
        "takes arguments",
    ),
    "a rule under with": (
        "allow if open with input.action as 1\n\nopen if input.chunk.legal_hold == false",
        1,
        "no-with",
        "as it is",
    ),
    "known-first membership": (
        "allow if {\n\tsome t in input.principal.teams\n\tt in input.chunk.teams\n}",
        3,
        "row-first-membership",
        "some x in input.chunk.<list>",
    ),
    "known-first comparison": (
        "allow if {\n\tsome t in input.principal.teams\n\tinput.chunk.owner == t\n}",
        3,
        "row-first-membership",
        "input.chunk.<field> in input.principal.<list>",
    ),
    "known-first iteration by index": (
        "allow if {\n\tsome i\n\tt := input.principal.teams[i]\n\tinput.chunk.teams[_] == t\n}",
        4,
        "row-first-membership",
        "grows",
    ),
    "every": (
        'allow if {\n\tevery t in input.chunk.teams {\n\t\tt == "x"\n\t}\n}',
        2,
        "every-over-row",
        "`not` it",
    ),
    "a comprehension": (
        "allow if count({t | some t in input.chunk.teams}) > 0",
        1,
        "comprehension-over-row",
        "some x in",
    ),
    "arithmetic": (
        "allow if input.chunk.level + 1 <= input.principal.clearance",
        1,
        "computed-from-row",
        "+ of input.chunk",
    ),
    "a normalisation": ('allow if lower(input.chunk.tenant) == "acme"', 1, "computed-from-row", "lower"),
    "a regular expression": (
        'allow if regex.match("^a", input.chunk.owner)',
        1,
        "computed-from-row",
        "regex.match",
    ),
    "a normalised element": (
        'allow if {\n\tsome t in input.chunk.teams\n\tlower(t) == "hr"\n}',
        3,
        "computed-from-row",
        "lower",
    ),
    "the row as a prefix": (
        'allow if startswith("/hr/a", input.chunk.owner)',
        1,
        "computed-from-row",
        "known text",
    ),
    "a list compared whole": ('allow if input.chunk.teams == ["a"]', 1, "computed-from-row", "whole array"),
    "a misspelt key": ('allow if input.chunk.tennant == "x"', 1, "undeclared-key", "there is: tenant"),
    "a nested key": ('allow if input.chunk.owner.name == "x"', 1, "undeclared-key", "flat"),
    "the row as a whole": ('allow if "acme" in input.chunk', 1, "whole-row", "name the fields"),
    "the row taken apart": (
        'allow if {\n\t{"tenant": t} = input.chunk\n\tt == "acme"\n}',
        2,
        "whole-row",
        "name the fields",
    ),
    "the row by object.get": (
        'allow if object.get(input, "chunk", {}).level == 0',
        1,
        "whole-row",
        "name the fields",
    ),
    "the network": (
        'allow if {\n\thttp.send({"method": "GET", "url": "http://h"}).body.owner == input.chunk.owner\n}',
        2,
        "wall-clock",
        "into data",
    ),
    "chance": (
        "allow if {\n\tinput.chunk.level <= rand.intn(input.principal.id, 2)\n}",
        2,
        "wall-clock",
        "something in input",
    ),
    "the clock": (
        "allow if {\n\tinput.chunk.embargo_until <= time.now_ns()\n}",
        2,
        "wall-clock",
        "input.now",
    ),
}


def findings(policies: Path, opa: Path) -> list[Finding]:
    schemas, faults = read_schemas(policies)
    assert faults == []
    names = ["chunk/chunk.rego", "lib/labels/labels.rego"]
    parsed, broken = parse_policies(names, OpaCommand(opa, policies))
    assert broken == []
    return authoring_findings(parsed, schemas)


def test_there_is_a_wrong_policy_for_every_trap() -> None:
    assert {f"trap {number}" for number in range(1, 12)} == {
        name.partition(":")[0] for name in WRONG if name.startswith("trap")
    }


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_policy_is_refused_at_its_line_with_advice(name: str, write: Write, opa: Path) -> None:
    body, line, code, advice = WRONG[name]
    head = HEAD.replace("allow := false", "allow := true") if line < 0 else HEAD
    policies = write("chunk/chunk.rego", f"{head}{body}\n")
    row = head.count("\n") + line + (1 if line < 0 else 0)

    found = findings(policies, opa)

    assert [(one.file, one.row, one.code) for one in found if advice in one.message and one.code == code] == [
        ("chunk/chunk.rego", row, code)
    ]


RIGHT = {
    "equality": "allow if input.chunk.tenant == input.principal.tenant",
    "a field on the right": "allow if input.principal.clearance >= input.chunk.level",
    "a scalar in the caller's names": "allow if input.chunk.owner in input.principal.teams",
    "row first": "allow if {\n\tsome t in input.chunk.teams\n\tt in input.principal.teams\n}",
    "a known name in a list": 'allow if "hr" in input.chunk.teams',
    "an element compared": 'allow if input.chunk.teams[_] == "hr"',
    "a prefix": 'allow if startswith(input.chunk.owner, "svc-")',
    "a known test negated": (
        'allow if {\n\tinput.chunk.legal_hold == false\n\tnot "guest" in input.principal.roles\n}'
    ),
    "a named rule negated": "allow if not bad\n\nbad if input.chunk.level > 2",
    "a function of known things": (
        "allow if {\n\tinput.chunk.level == 0\n\tknown(input.principal)\n}\n\nknown(p) if p.id == `x`"
    ),
    "a helper elsewhere": (
        "allow if {\n\tinput.chunk.level == 0\n\tsome l in input.chunk.labels\n\tl in labels.restricted\n}"
    ),
    "a local name like a rule's": (
        "allow if {\n\tsome bad in input.chunk.teams\n\tbad in input.principal.teams\n}\n\nbad(x) if x"
    ),
    "the input's other parts by object.get": (
        'allow if {\n\tinput.chunk.level == 0\n\tobject.get(input, "store", {}) != {}\n}'
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_a_filter_can_say_is_not_refused(name: str, write: Write, opa: Path) -> None:
    policies = write("chunk/chunk.rego", f"{HEAD}{RIGHT[name]}\n")

    assert findings(policies, opa) == []


def test_the_newer_not_is_held_to_the_same_rule(write: Write, opa: Path) -> None:
    head = HEAD.replace("import data", "import future.keywords.not\nimport data")
    policies = write(
        "chunk/chunk.rego",
        f"{head}allow if {{\n\tnot input.chunk.level > 3\n\tnot bad\n}}\n\nbad if input.chunk.level == 0\n",
    )

    assert [(one.row, one.code) for one in findings(policies, opa)] == [
        (head.count("\n") + 2, "negate-named-rules")
    ]


def test_a_rule_of_another_package_is_held_to_the_rules_once_it_is_reached(write: Write, opa: Path) -> None:
    write("chunk/chunk.rego", f"{HEAD}allow if data.regate.extra.open\n")
    policies = write(
        "extra/extra.rego",
        (
            "package regate.extra\n\nopen if not input.chunk.level > 3\n\nunreached if not "
            "input.chunk.level > 4\n"
        ),
    )
    parsed, _ = parse_policies(["chunk/chunk.rego", "extra/extra.rego"], OpaCommand(opa, policies))

    found = authoring_findings(parsed, read_schemas(policies)[0])

    assert [(one.file, one.row, one.code) for one in found] == [("extra/extra.rego", 3, "negate-named-rules")]
