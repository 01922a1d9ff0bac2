"""What `regate policy check` says of a bad line, of chosen checks, and on a page: with a real OPA,
from end to end.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.workbench.conftest import Write
from tests.gateway.workbench.test_check import report, run, status

from regate_gateway.workbench.check.checks import CHECKS
from regate_gateway.workbench.page import Section, Table, page


def custom(write: Write, body: str) -> Path:
    return write("custom/chunk/chunk.rego", f"package regate.custom.chunk\n\n{body}\n")


def told(found: dict[str, Any]) -> list[tuple[str, int, str]]:
    return [
        (one["file"], one["row"], one["code"])
        for check in found["checks"]
        for one in (*check["findings"], *check["warnings"])
    ]


ONE_LINE = {
    "the network": (
        'deny if http.send({"method": "GET", "url": "http://h"}).body.owner == input.chunk.owner',
        "wall-clock",
        "into data",
    ),
    "the clock": ("deny if input.chunk.embargo_until > time.now_ns()", "wall-clock", "input.now"),
    "a regular expression": (
        'deny if regex.match("^a", input.chunk.owner)',
        "computed-from-row",
        "stamp what it computes",
    ),
    "a comprehension": (
        "deny if count({t | some t in input.chunk.teams}) > 3",
        "comprehension-over-row",
        "some x in input.chunk.<list>",
    ),
    "arithmetic": ("deny if input.chunk.level + 1 > 2", "computed-from-row", "+ of input.chunk"),
    "a function": (
        "deny if bad(input.chunk)\n\nbad(c) if c.level > 3",
        "no-functions",
        "bad is given input.chunk",
    ),
    "a set": ('deny contains "x" if input.chunk.level > 3', "only-true-values", "deny is a set"),
    "the row by object.get": (
        'deny if object.get(input.chunk, "owner", "") == "x"',
        "whole-row",
        "name the fields",
    ),
    "a function that is not there": ("deny if foo(input.chunk.owner)", "opa-check", "correct its name"),
    "a variable that is not there": (
        "deny if x == input.chunk.owner",
        "opa-check",
        "say what it is before it is used",
    ),
    "what may fail": (
        "deny if to_number(input.principal.attrs.x) < input.chunk.level",
        "may-fail",
        "regate.custom.authn.attrs",
    ),
    "a false keyword": ("deny iff input.chunk.level > 3", "syntax", "its name, then `if`"),
    "another language's or": (
        'deny if input.chunk.level > 3 || input.chunk.owner == "x"',
        "syntax",
        "no `||`",
    ),
    "another language's not": ("deny if !input.chunk.legal_hold", "syntax", "no `!`"),
}


@pytest.mark.parametrize("name", ONE_LINE)
def test_a_bad_line_is_one_finding_with_file_and_row_that_says_what_to_write(name: str, write: Write) -> None:
    body, code, advice = ONE_LINE[name]

    found = report(
        ["--policy", str(custom(write, body)), "--store", "memory", "--only", "types,authoring,absences"]
    )

    assert told(found) == [("custom/chunk/chunk.rego", 3, code)]
    assert advice in next(one["message"] for check in found["checks"] for one in check["findings"])


@pytest.mark.parametrize("value", ["input.chunk.owner", "lower(input.chunk.owner)"])
def test_what_rests_on_a_refused_variable_is_not_told_of_again(value: str, write: Write) -> None:
    policy = custom(write, f'deny if {{\n\tname := {value}\n\tname == "a"\n}}')

    found = report(["--policy", str(policy), "--only", "authoring"])

    assert [(file, row) for file, row, _ in told(found)] == [("custom/chunk/chunk.rego", 4)]


def test_a_file_that_ends_too_early_is_told_at_its_last_line(write: Write) -> None:
    found = report(["--policy", str(custom(write, "deny if {\n\tinput.chunk.level > 3"))])

    assert told(found) == [("custom/chunk/chunk.rego", 4, "syntax")]


NOT_IN_CHROMA = {
    'deny if startswith(input.chunk.owner, "svc-")': (
        "chroma cannot apply startswith to input.chunk.owner; stamp"
    ),
    'deny if endswith(input.chunk.owner, "-bot")': "chroma cannot apply endswith to input.chunk.owner; stamp",
    'deny if not _ours\n\n_ours if contains(input.chunk.owner, "acme")': (
        "chroma cannot apply contains to input.chunk.owner; stamp"
    ),
    "deny if input.chunk.owner == input.chunk.tenant": (
        "chroma cannot compare input.chunk.owner with input.chunk.tenant; stamp"
    ),
    'deny if input.chunk.owner < "m"': "chroma cannot order the texts of input.chunk.owner; stamp a number",
}


@pytest.mark.parametrize("body", NOT_IN_CHROMA)
def test_what_a_store_cannot_push_down_is_told_at_its_line_with_what_to_write(
    body: str, write: Write
) -> None:
    found = report(["--policy", str(custom(write, body)), "--store", "chroma", "--only", "stores"])

    (finding,) = next(check["findings"] for check in found["checks"] if check["name"] == "stores")
    assert (finding["file"], finding["row"]) == ("custom/chunk/chunk.rego", 2 + len(body.splitlines()))
    assert finding["message"].startswith(NOT_IN_CHROMA[body])
    assert "for no groups" not in finding["message"]
    assert "Chroma: Chroma" not in json.dumps(found)


def test_only_what_is_named_and_what_it_needs_is_checked(write: Write) -> None:
    policy = custom(write, "deny if   input.chunk.level > 3")

    assert list(status(report(["--policy", str(policy), "--only", "format"]))) == ["syntax", "format"]
    assert list(status(report(["--policy", str(policy), "--only", "authoring,absences"]))) == [
        "syntax",
        "schemas",
        "authoring",
        "absences",
    ]
    assert list(status(report(["--policy", str(policy), "--only", "filters"]))) == [
        "syntax",
        "types",
        "schemas",
        "authoring",
        "controls",
        "filters",
    ]


@pytest.mark.parametrize(
    ("named", "says"),
    [("formt", "did you mean 'format'?"), ("everything", "there are syntax, format"), ("", "there are")],
)
def test_a_check_that_is_not_there_is_wrong_usage_and_says_what_there_is(named: str, says: str) -> None:
    result = run(["--only", named])

    assert result.exit_code == 2
    assert says in result.output
    assert all(name in result.output for name in CHECKS)


def test_a_page_shows_the_findings_and_loads_nothing(write: Write, tmp_path: Path) -> None:
    policy = custom(
        write,
        (
            'deny if input.chunk.owner == "<script>"\n\ndney if lower(input.chunk.owner) == "<b>"\n\ndeny '
            "if dney"
        ),
    )
    place = tmp_path / "report.html"

    result = run(["--policy", str(policy), "--only", "authoring", "--html", str(place)])

    page = place.read_text()
    assert result.exit_code == 1
    assert "custom/chunk/chunk.rego:5" in page
    assert "computed-from-row" in page
    assert not re.search(r"<script|<link|<img|\bsrc=|\bhref=|url\(|@import", page)


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x>', "a & b"])
def test_what_is_shown_on_a_page_is_escaped(text: str) -> None:
    shown = page(text, (text,), [Section(text, Table((text,), [(text,)]))])

    assert text not in shown
    assert shown.count(html.escape(text)) == 6


def test_a_page_that_cannot_be_written_is_told_of(tmp_path: Path) -> None:
    result = run(["--only", "format", "--html", str(tmp_path / "no" / "report.html")])

    assert (result.exit_code, "cannot be written" in result.output) == (1, True)
