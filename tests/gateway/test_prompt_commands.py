"""`regate prompt` short of a gateway: wrong usage, files that hold no prompt, and nobody who answers.
The rest is in `tests/e2e`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from regate_gateway.cli.main import main

WEATHER = "name: Weather\ntemplate: {instructions: Hi.}\n"
NOBODY = "http://127.0.0.1:9/v1"


def run(*arguments: str, stdin: str = "", token: str = "token") -> Result:
    environment = {
        "REGATE_TOKEN": token,
        "OPENAI_API_KEY": None,
        "REGATE_URL": NOBODY,
        "OPENAI_BASE_URL": None,
    }
    return CliRunner().invoke(main, ["prompt", *arguments], input=stdin, env=environment)


@pytest.mark.parametrize(
    "arguments",
    [
        ("update", "pmpt_1"),
        ("update", "pmpt_1", "--make-default"),
        ("update", "pmpt_1", "--file", "-", "--make-default", "--default-version", "1"),
        ("create", "absent.yaml"),
        ("create", "-", "--metadata", "a"),
        ("list", "--url", "ftp://127.0.0.1"),
        ("show",),
        ("publish",),
    ],
)
def test_wrong_usage_exits_2(arguments: tuple[str, ...]) -> None:
    assert run(*arguments, stdin=WEATHER).exit_code == 2


def test_without_a_token_nobody_is_asked() -> None:
    done = run("list", token="")
    assert (done.exit_code, "REGATE_TOKEN or OPENAI_API_KEY" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("template: [", "is neither YAML nor JSON"),
        ("\x00", "is neither YAML nor JSON"),
        ("[1]", "must hold a template"),
        ("", "must hold a template"),
        ("instructions: Hi.", "must hold a template"),
        (WEATHER + "owner: bob", "nothing but name and metadata"),
        (WEATHER + "metadata: x", "metadata must be a mapping"),
        ("template: {1: 2}", "cannot be written as JSON"),
        ("template: {a: 123456789012345678901234567890}", "cannot be written as JSON"),
    ],
)
def test_file_that_holds_no_prompt_is_refused_in_one_line(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "prompt.yaml"
    file.write_text(content)
    done = run("create", str(file))
    assert (done.exit_code, done.stdout, done.stderr.count("\n"), said in done.stderr) == (1, "", 1, True)


def test_nobody_who_answers_is_said_so() -> None:
    done = run("list")
    assert (done.exit_code, done.stderr.startswith(f"regate: no gateway answers at {NOBODY}")) == (1, True)
