"""`regate prompt` as a process before a running gateway: what it prints, and how it exits."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.deployments import only_on
from tests.e2e.conftest import World

pytestmark = only_on("embedded")

FILE: dict[str, Any] = {
    "name": "Weather",
    "metadata": {"regate.visibility": "private"},
    "template": {"model": "small", "instructions": "Hello {{name}} from {{city}}."},
}


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Shell:
    """Runs commands as a person whose token is in the environment."""

    folder: Path
    environment: dict[str, str]

    async def run(self, *arguments: str, stdin: str = "", **environment: str) -> Done:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("REGATE_", "OPENAI_"))
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "regate_gateway", "prompt", *arguments),
            cwd=self.folder,
            env={**kept, **self.environment, **environment},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), 60)
        return Done(process.returncode or 0, out.decode(), err.decode())

    def write(self, name: str, content: Any) -> str:
        (self.folder / name).write_text(
            content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8"
        )
        return name


@pytest.fixture
def shell(world: World, tmp_path: Path) -> Shell:
    folder = tmp_path / "shell"
    folder.mkdir()
    return Shell(
        folder, {"REGATE_URL": f"{world.url}/v1", "REGATE_TOKEN": world.token("alice", "acme", teams=["hr"])}
    )


async def test_prompt_is_managed_from_the_command_line(shell: Shell) -> None:
    created = await shell.run("create", shell.write("weather.yaml", FILE))
    identifier = created.out.strip()
    second = json.dumps({"template": {"instructions": "Bonjour {{name}}."}})
    updated = await shell.run(
        "update", identifier, "--file", "-", "--make-default", "--name", "Greeting", stdin=second
    )
    listed = await shell.run("list")
    versions = await shell.run("versions", identifier)
    shown = await shell.run("show", identifier)
    first = await shell.run("show", identifier, "--version", "1", "--json")
    back = await shell.run("update", identifier, "--default-version", "1", "--json")
    deleted = await shell.run("delete", identifier, "--yes")
    gone = await shell.run("show", identifier)

    assert [
        done.code for done in (created, updated, listed, versions, shown, first, back, deleted, gone)
    ] == [0] * 8 + [1]
    assert updated.out == "Greeting: latest version 2, default version 2\n"
    assert (listed.out.split()[:2], listed.out.split()[-1]) == ([identifier, "2/2"], "Greeting")
    assert [line.split()[0::2] for line in versions.out.splitlines()] == [["1", "name"], ["2", "name"]]
    assert yaml.safe_load(shown.out)["template"] == {"instructions": "Bonjour {{name}}."}
    assert (first.json["template"], first.json["variables"]) == (FILE["template"], ["name", "city"])
    assert (back.json["default_version"], back.json["metadata"]) == ("1", FILE["metadata"])
    assert (gone.out, gone.err) == ("", f"regate: Prompt with id '{identifier}' not found.\n")


async def test_options_of_create_win_over_the_file(shell: Shell) -> None:
    content = json.dumps(
        {
            "name": "x",
            "metadata": {"regate.visibility": "private", "a": "b"},
            "template": {"instructions": "Hi."},
        }
    )
    created = await shell.run(
        "create",
        "-",
        "--name",
        "y",
        "--metadata",
        "regate.visibility=tenant",
        "--metadata",
        "c=d=e",
        "--json",
        stdin=content,
    )

    assert (created.json["name"], created.json["metadata"]) == (
        "y",
        {"regate.visibility": "tenant", "a": "b", "c": "d=e"},
    )


async def test_list_goes_over_all_pages_and_shows_nothing_that_a_terminal_obeys(
    shell: Shell, world: World
) -> None:
    async with world.http("alice", "acme") as http:
        for number in range(103):
            body = {
                "name": f"\x1b[2J{number:03d}\n",
                "template": {"instructions": "x"},
                "metadata": {"regate.visibility": "private"},
            }
            await http.post("/prompts", json=body)
    plain, listed = await shell.run("list"), await shell.run("list", "--json")

    assert sorted(one["name"][4:7] for one in listed.json) == [f"{number:03d}" for number in range(103)]
    assert plain.out.count("\n") == 103
    assert "\x1b" not in plain.out


async def test_delete_asks_first_and_another_persons_token_sees_nothing(shell: Shell, world: World) -> None:
    identifier = (await shell.run("create", shell.write("weather.yaml", FILE))).out.strip()
    other = {"REGATE_TOKEN": "", "OPENAI_API_KEY": world.token("mallory", "globex")}
    foreign = [await shell.run("list", **other), await shell.run("delete", identifier, "--yes", **other)]
    refused, agreed = (
        await shell.run("delete", identifier, stdin="n\n"),
        await shell.run("delete", identifier, stdin="y\n"),
    )

    assert [(done.code, done.out) for done in foreign] == [(0, ""), (1, "")]
    assert (refused.code, agreed.code, agreed.out) == (1, 0, f"Deleted {identifier}.\n")


async def test_what_the_gateway_refuses_is_said_in_its_words_and_exits_1(shell: Shell) -> None:
    unknown = shell.write("unknown.yaml", {**FILE, "template": {"instructions": "x", "store": True}})
    done = [
        await shell.run("create", unknown),
        await shell.run("list", REGATE_TOKEN="nonsense"),
        await shell.run("list", "--url", shell.environment["REGATE_URL"].removesuffix("/v1")),
    ]

    assert [(one.code, one.out) for one in done] == [(1, "")] * len(done)
    assert done[0].err == "regate: Unknown parameter: 'template.store'.\n"
    assert [one.err for one in done if not one.err.startswith("regate: ") or one.err.count("\n") != 1] == []
