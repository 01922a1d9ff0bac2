"""Every construct that chunk rules are written with, against real OPA: what the translator makes of it, or
why it refuses.

The principal is fixed, so that each row can be read by itself. The table is also the documentation of the
fragment.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
import pytest_asyncio
from tests.adapters.opa.policies import short, write_policies

from regate_adapters.opa.engine import OpaEngine
from regate_adapters.opa.residual import NotUnderstood
from regate_adapters.testing.opa import running_opa
from regate_orchestrator.filters.expression import expression_of
from regate_orchestrator.filters.schema import FieldSpec, RowSchema


class Row(NamedTuple):
    """A rule, and the filter it must become; `NOW` stands for the time in nanoseconds."""

    rule: str
    expected: str


INPUT = {
    "action": "read",
    "user": {
        "id": "u",
        "tenant": "acme",
        "teams": ["hr", "eng"],
        "clearance": 2,
        "roles": ["analyst"],
        "none": [],
        "obj": {"hr": True, "eng": True},
    },
}

TABLE = [
    Row(
        "allow if input.chunk.tenant == input.user.tenant",
        'tenant eq "acme"',
    ),
    Row(
        "allow if input.chunk.public == true",
        "public eq true",
    ),
    Row(
        "allow if input.chunk.public",
        "truthy(public)",
    ),
    Row(
        "allow if input.chunk.public != false",
        "public ne false",
    ),
    Row(
        'allow if input.chunk.tenant != "evil"',
        'tenant ne "evil"',
    ),
    Row(
        "allow if input.chunk.level <= input.user.clearance",
        "level le 2",
    ),
    Row(
        "allow if input.user.clearance >= input.chunk.level",
        "level le 2",
    ),
    Row(
        "allow if input.chunk.owner == input.chunk.author",
        "owner eq author",
    ),
    Row(
        "allow if input.chunk.team in input.user.teams",
        'team in ["hr", "eng"]',
    ),
    Row(
        'allow if input.chunk.team in {"a","b"}',
        'team in ["a", "b"]',
    ),
    Row(
        "allow if { some t in input.user.teams; input.chunk.team == t }",
        '(team eq "hr" | team eq "eng")',
    ),
    Row(
        "allow if input.chunk.team in input.user.none",
        "NEVER",
    ),
    Row(
        "allow if { some t in input.user.none; input.chunk.team == t }",
        "NEVER",
    ),
    Row(
        'allow if "hr" in input.chunk.teams',
        'teams overlaps ["hr"]',
    ),
    Row(
        "allow if { some t in input.user.teams; t in input.chunk.teams }",
        '(teams overlaps ["hr"] | teams overlaps ["eng"])',
    ),
    Row(
        "allow if { some t in input.chunk.teams; t in input.user.teams }",
        'teams overlaps ["hr", "eng"]',
    ),
    Row(
        "allow if { some t in input.user.teams; input.chunk.teams[_] == t }",
        '(teams overlaps ["hr"] | teams overlaps ["eng"])',
    ),
    Row(
        "allow if { some t in input.user.teams; input.chunk.teams[t] }",
        "(truthy(teams.hr) | truthy(teams.eng))",
    ),
    Row(
        "allow if { some t in input.user.teams; input.chunk.teams[t] == true }",
        "(teams.hr eq true | teams.eng eq true)",
    ),
    Row(
        'allow if { some t in input.user.teams; input.chunk[sprintf("team:%s",[t])] == true }',
        "(team:hr eq true | team:eng eq true)",
    ),
    Row(
        'allow if { some t in input.user.teams; input.chunk[concat(":",["team",t])] == true }',
        "(team:hr eq true | team:eng eq true)",
    ),
    Row(
        ('allow if { some t in input.user.teams; input.chunk.acl[sprintf("team:%s",[t])] == true }'),
        "(acl.team:hr eq true | acl.team:eng eq true)",
    ),
    Row(
        ('allow if { some k, true in input.user.obj; input.chunk[concat("_",["team",k])] == true }'),
        "(team_eng eq true | team_hr eq true)",
    ),
    Row(
        'allow if object.get(input.chunk, "public", false) == true',
        "refused: builtin object.get with 4 arguments",
    ),
    Row(
        ("allow if count({x | some x in input.chunk.teams} & {x | some x in input.user.teams}) > 0"),
        "refused: comparison with a free variable",
    ),
    Row(
        'allow if startswith(input.chunk.path, "/hr/")',
        'startswith(path, "/hr/")',
    ),
    Row(
        'allow if startswith("/hr/a", input.chunk.path)',
        "refused: startswith of anything but a field and a known text",
    ),
    Row(
        'allow if endswith(input.chunk.path, ".md")',
        'endswith(path, ".md")',
    ),
    Row(
        ('allow if { some t in input.user.teams; contains(input.chunk.teams_csv, concat("",["|",t,"|"])) }'),
        '(contains(teams_csv, "|hr|") | contains(teams_csv, "|eng|"))',
    ),
    Row(
        'allow if not input.chunk.tenant == "evil"',
        '!tenant eq "evil"',
    ),
    Row(
        'allow if not input.chunk.label in ["secret","pii"]',
        '(!label in ["secret", "pii"] & defined(label))',
    ),
    Row(
        "allow if not input.chunk.embargo",
        "!truthy(embargo)",
    ),
    Row(
        'allow if not startswith(input.chunk.path, "/x/")',
        '(!startswith(path, "/x/") & defined(path))',
    ),
    Row(
        ('allow if { input.chunk.tenant == "acme"; not bad }\nbad if input.chunk.label == "secret"'),
        '(tenant eq "acme" & !label eq "secret")',
    ),
    Row(
        (
            'allow if { input.chunk.tenant == "acme"; not bad }\nbad if { input.chunk.label == '
            '"secret"; input.chunk.level > 2 }'
        ),
        '(tenant eq "acme" & !(label eq "secret" & level gt 2))',
    ),
    Row(
        (
            'allow if { input.chunk.tenant == "acme"; not bad }\nbad if input.chunk.label == '
            '"secret"\nbad if input.chunk.level > 2'
        ),
        '(tenant eq "acme" & !(label eq "secret" | level gt 2))',
    ),
    Row(
        ('allow if { input.chunk.tenant == "acme"; ok }\nok if input.chunk.a == 1\nok if input.chunk.b == 2'),
        '(tenant eq "acme" & (a eq 1 | b eq 2))',
    ),
    Row(
        (
            "allow if f(input.chunk)\nf(c) if { c.tenant == input.user.tenant; c.level <= "
            "input.user.clearance }"
        ),
        '(tenant eq "acme" & level le 2)',
    ),
    Row(
        'allow if f(input.chunk)\ndefault f(_) := false\nf(c) if c.tenant == "acme"',
        'tenant eq "acme"',
    ),
    Row(
        'default allow := false\nallow if input.chunk.tenant == "acme"',
        'tenant eq "acme"',
    ),
    Row(
        'allow if ok\ndefault ok := false\nok if input.chunk.tenant == "acme"',
        'tenant eq "acme"',
    ),
    Row(
        ("allow if ok\nok if { input.chunk.a == 1 } else := false if { input.chunk.b == 2 }"),
        "is not a rule that partial evaluation resolved",
    ),
    Row(
        "allow if every r in input.user.roles { input.chunk.forbidden_role != r }",
        'forbidden_role ne "analyst"',
    ),
    Row(
        "allow if every t in input.chunk.teams { t in input.user.teams }",
        "refused: `every` over unknown values",
    ),
    Row(
        'allow if every t in input.user.teams { input.chunk[concat(":",["need",t])] != true }',
        "(need:hr ne true & need:eng ne true)",
    ),
    Row(
        'allow if count([1 | input.chunk.label == "x"]) == 0',
        "refused: a variable shared between expressions",
    ),
    Row(
        "allow if input.chunk.expiry == null",
        "expiry eq null",
    ),
    Row(
        "allow if input.chunk.expiry != null",
        "expiry ne null",
    ),
    Row(
        "allow if input.chunk.expiry = _",
        "defined(expiry)",
    ),
    Row(
        "allow if input.chunk.expires_at > time.now_ns()",
        "expires_at gt NOW",
    ),
    Row(
        "allow if time.parse_rfc3339_ns(input.chunk.expires) > time.now_ns()",
        "refused: comparison with a computed value (call)",
    ),
    Row(
        'allow if lower(input.chunk.tenant) == "acme"',
        "refused: builtin lower",
    ),
    Row(
        "allow if input.chunk.level + 1 <= 3",
        "refused: comparison with a computed value (call)",
    ),
    Row(
        'allow if {"public":0,"internal":1,"secret":3}[input.chunk.cls] <= input.user.clearance',
        '(cls eq "internal" | cls eq "public")',
    ),
    Row(
        (
            'allow if { some cls, lvl in {"public":0,"internal":1,"secret":3}; lvl <= '
            "input.user.clearance; input.chunk.cls == cls }"
        ),
        '(cls eq "internal" | cls eq "public")',
    ),
    Row(
        (
            'allow if input.chunk.cls in {c | some c, l in {"public":0,"internal":1,"secret":3}; l <= '
            "input.user.clearance}"
        ),
        'cls in ["internal", "public"]',
    ),
    Row(
        'allow if regex.match("^a", input.chunk.path)',
        "refused: builtin regex.match",
    ),
    Row(
        'allow if input.chunk.meta.tenant == "acme"',
        'meta.tenant eq "acme"',
    ),
    Row(
        'allow if input.chunk[0] == "x"',
        "refused: an indexed reference",
    ),
    Row(
        'allow if input.chunk.teams[0] == "x"',
        "refused: an indexed reference",
    ),
    Row(
        'allow if { some k; input.chunk[k] == "acme" }',
        "refused: input.chunk as a whole",
    ),
    Row(
        'allow if "acme" in input.chunk',
        "refused: input.chunk as a whole",
    ),
    Row(
        "allow if input.chunk.team in input.chunk.teams",
        "refused: a field in a field",
    ),
    Row(
        'allow if { t := input.chunk.tenant; t == "acme"; t != "x" }',
        'tenant eq "acme"',
    ),
    Row(
        'allow if { {"tenant": t} = input.chunk; t == "acme" }',
        "refused: comparison with a known object",
    ),
    Row(
        'allow if { is_string(input.chunk.tenant); input.chunk.tenant == "acme" }',
        "refused: builtin is_string with 1 arguments",
    ),
    Row(
        'allow if input.chunk.tags == ["a"]',
        "refused: comparison with a known array",
    ),
    Row(
        'allow if input.action == "read"',
        "ALWAYS",
    ),
    Row(
        'allow if input.action == "write"',
        "NEVER",
    ),
    Row(
        'allow if ok with input.x as 1\nok if input.chunk.tenant == "acme"',
        "refused: `with`",
    ),
    Row(
        (
            'allow if { input.chunk.tenant == "acme"; count(deny) == 0 }\ndeny contains "x" if '
            'input.chunk.label == "x"'
        ),
        "refused: builtin count",
    ),
    Row(
        (
            'allow if { input.chunk.tenant == "acme"; not deny["x"] }\ndeny contains "x" if '
            'input.chunk.label == "x"'
        ),
        '(tenant eq "acme" & !label eq "x")',
    ),
    Row(
        'allow if { print("hi", input.user.id); input.chunk.tenant == "acme" }',
        'tenant eq "acme"',
    ),
    Row(
        "import rego.v2\nallow if input.chunk.a == 1 or input.chunk.b == 2",
        "(a eq 1 | b eq 2)",
    ),
    Row(
        'allow if { s := {"a", input.chunk.team}; "hr" in s }',
        "refused: a variable shared between expressions",
    ),
    Row(
        'allow if strings.any_prefix_match(input.chunk.path, ["/a","/b"])',
        "refused: builtin strings.any_prefix_match",
    ),
    Row(
        'allow if input.chunk.date < "2026-01-01"',
        'date lt "2026-01-01"',
    ),
    Row(
        'allow if input.chunk.team in [["a"],["b"]]',
        "refused: a known array inside a collection",
    ),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpaEngine]:
    directory = tmp_path_factory.mktemp("fragment")
    packages = {f"fragment/r{number:02}.rego": _module(number, row.rule) for number, row in enumerate(TABLE)}
    async with running_opa(write_policies(directory, packages), deadline_s=10) as engine:
        yield engine


def test_table_has_all_of_its_78_rows() -> None:
    assert len({row.rule for row in TABLE}) == 78


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("number", range(len(TABLE)), ids=[row.rule for row in TABLE])
async def test_rule_becomes_exactly_this_filter_or_is_refused(engine: OpaEngine, number: int) -> None:
    try:
        planned = await engine.plan(f"regate/fragment/r{number:02}/allow", INPUT, unknown="chunk")
        found = re.sub(r"\b\d{19}\b", "NOW", short(expression_of(planned.plan)))
    except NotUnderstood as refusal:
        found = f"refused: {refusal.reason}"

    assert TABLE[number].expected in found
    assert found.startswith("refused: ") or TABLE[number].expected == found


SCHEMA = RowSchema(
    "chunk",
    {
        spec.name: spec
        for spec in (
            FieldSpec("tenant", "string", required=True),
            FieldSpec("level", "number", required=True),
            FieldSpec("teams", "list", required=True),
            FieldSpec("region", "string", required=False),
            FieldSpec("score", "number", required=False),
        )
    },
)

TRAPS = [
    Row('allow if input.chunk.tennant == "acme"', "field tennant is not declared in the schema of chunk"),
    Row(
        'allow if input.chunk.tenant.name == "acme"',
        "field tenant.name is not declared in the schema of chunk",
    ),
    # Partial evaluation leaves the same residual for the next two, of which one is true of a row without the
    # field.
    Row('allow if not input.chunk.region == "us"', "a direct negation on region, which may be missing"),
    Row(
        'allow if { region := input.chunk.region; not region == "us" }',
        "a direct negation on region, which may be missing",
    ),
    Row(
        "import rego.v2\nallow if not input.chunk.score > 3",
        "a direct negation on score, which may be missing",
    ),
    Row(
        "import rego.v2\nallow if { score := input.chunk.score; not score > 3 }",
        "a direct negation on score, which may be missing",
    ),
    Row('allow if not american\namerican if input.chunk.region == "us"', '!region eq "us"'),
    Row('allow if not input.chunk.tenant == "evil"', '!tenant eq "evil"'),
    Row("allow if not input.chunk.score > 3", "(!score gt 3 & defined(score))"),
    Row("allow if { score := input.chunk.score; score < 3; score > 1 }", "(score lt 3 & score gt 1)"),
    Row("allow if { some i; input.chunk.teams[i] == i }", "a variable shared between expressions"),
    Row('allow if { some team in input.chunk.teams; team != "hr" }', "list elements compared by ne"),
    Row(
        'allow if { some team in input.chunk.teams; not team == "hr" }',
        "a test of list elements under negation",
    ),
    Row(
        'allow if { some team in input.chunk.teams; not team in ["hr"] }',
        "a test of list elements under negation",
    ),
    Row(
        'allow if { some team in input.chunk.teams; team == "hr"; team == "eng" }',
        "a variable shared between expressions",
    ),
    Row(
        'allow if { some team in input.chunk.teams; team >= "a"; team <= "b" }',
        "a variable shared between expressions",
    ),
    Row('allow if { some team in input.chunk.teams; startswith(team, "h") }', "startswith of list elements"),
    Row("allow if { some team in input.chunk.teams }", "nonempty(teams)"),
    Row(
        "allow if not low\nlow if input.chunk.level == 1\nlow := false if input.chunk.level == 2",
        "may be both true and false",
    ),
    Row("allow if high\ndefault high := true\nhigh := false if input.chunk.level <= 2", "!level le 2"),
    Row(
        "allow if low == false\nlow if input.chunk.level == 1\ndefault low := false",
        "compared with anything but `== true`",
    ),
    Row("allow if input.chunk.level < 123456789012345678901234567890", "does not fit 64 bits"),
    Row("allow if input.chunk.level < 0.10000000000000000000001", "has no exact form"),
    Row("allow if input.chunk.level < 9007199254740993", "level lt 9007199254740993"),
    Row("allow if input.other.chunk == 1", "NEVER"),
    Row("allow if input[input.action].level == 1", "NEVER"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def strict_engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpaEngine]:
    directory = tmp_path_factory.mktemp("traps")
    packages = {f"fragment/r{number:02}.rego": _module(number, row.rule) for number, row in enumerate(TRAPS)}
    async with running_opa(
        write_policies(directory, packages), schemas={"chunk": SCHEMA}, deadline_s=10
    ) as engine:
        yield engine


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("number", range(len(TRAPS)), ids=[row.rule for row in TRAPS])
async def test_trap_of_partial_evaluation_is_seen(strict_engine: OpaEngine, number: int) -> None:
    try:
        planned = await strict_engine.plan(f"regate/fragment/r{number:02}/allow", INPUT, unknown="chunk")
        found = short(expression_of(planned.plan))
    except NotUnderstood as refusal:
        found = f"refused: {refusal.reason}"

    assert TRAPS[number].expected in found
    assert found.startswith("refused: ") or TRAPS[number].expected == found


def _module(number: int, rule: str) -> str:
    return f"package regate.fragment.r{number:02}\n\n{rule}\n"
