"""`regate policy assemble`: from the shipped policies, whole or not at all, again and again, and over
nothing that is not its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.adapters.opa.policies import write_policies
from tests.adapters.opa.writers import files_of

from regate_adapters.opa.engine import OpaEngine
from regate_adapters.opa.policies.source import IncompletePolicy, read_source
from regate_adapters.opa.server.process import ManagedOpa
from regate_gateway.cli.main import main
from regate_gateway.workbench.directory import shipped_policies
from regate_orchestrator.values import JsonObject

ALLOW = "package regate.chunk\n\ndefault allow := false\n\nallow if not data.regate.custom.chunk.deny\n"
DENY = 'package regate.custom.chunk\n\ndeny if "{}" in input.principal.roles\n'
ASKED: JsonObject = {"principal": {"roles": ["contractor", "intern"]}}

# Runs the command and stops before each change that it makes to the disk, until a line comes in.
STEPPED = """
import os, sys
def stop(event, arguments):
    changes = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink")
    if changes or (event == "open" and arguments[2] is not None and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
        os.write(1, b"r" if event == "os.rename" else b".")
        if not os.read(0, 1):
            os._exit(9)
from regate_gateway.cli.main import main
sys.addaudithook(stop)
main(sys.argv[1:])
"""


def assemble(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["policy", "assemble", *map(str, arguments)])


def stepped(*arguments: object) -> Generator[bytes]:
    """Run the command in a process of its own that stops before each change, `r` for a renaming; close
    the generator to kill it there.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-c", STEPPED, "policy", "assemble", *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, bufsize=0
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        try:
            while (change := writer.stdout.read(1)) in (b".", b"r"):
                yield change
                writer.stdin.write(b"\n")
        except GeneratorExit:
            writer.kill()
            raise
    assert writer.returncode == 0


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_policies(tmp_path / "base", {"chunk/chunk.rego": ALLOW})


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    rule = tmp_path / "overlay" / "custom" / "chunk" / "chunk.rego"
    rule.parent.mkdir(parents=True)
    rule.write_text(DENY.format("contractor"))
    return tmp_path / "overlay"


def amend(overlay: Path) -> None:
    (overlay / "custom" / "chunk" / "chunk.rego").write_text(DENY.format("intern"))


# ---------------------------------------------------------------- whole or not at all


async def test_caller_whom_all_deny_is_let_in_at_no_stop_of_an_assembly(
    base: Path, overlay: Path, tmp_path: Path, opa: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_STILL_SECONDS", "_PATIENCE_SECONDS"):
        monkeypatch.setattr(f"regate_adapters.opa.policies.watching.{name}", 0)  # every stop is longer
    monkeypatch.setattr("regate_adapters.opa.server.process._RELOAD_SECONDS", 30)
    live = tmp_path / "build" / "policy"
    assert assemble("--policy", base, "--overlay", overlay, "--output", live).exit_code == 0
    before = read_source(live).revision
    amend(overlay)
    answers, revisions = [], []
    async with (
        ManagedOpa(live, opa=opa) as process,
        OpaEngine(process.address, schemas={}, deadline_s=20) as engine,
    ):
        for _ in stepped("--policy", base, "--overlay", overlay, "--output", live):
            await process.look()
            answers.append((await engine.ask("regate/chunk/allow", ASKED)).value)
            revisions.append(process.revision)
        await process.look()
        assert process.problem is None
        revisions.append(process.revision)

    assert (set(answers), len(answers) > 10) == ({False}, True)
    assert (set(revisions), revisions[-1]) == (
        {before, read_source(live).revision},
        read_source(live).revision,
    )


def test_assembly_that_is_killed_leaves_a_whole_policy_or_none_and_the_next_mends_it(
    base: Path, overlay: Path, tmp_path: Path
) -> None:
    live = tmp_path / "build" / "policy"
    arguments = ("--policy", base, "--overlay", overlay, "--output", live)
    assert assemble(*arguments).exit_code == 0
    changes = list(stepped(*arguments))
    renamings = [stop for stop, change in enumerate(changes) if change == b"r"]
    found = []
    for last in sorted({0, len(changes) // 3, *renamings, *(stop + 1 for stop in renamings)}):
        before = read_source(live).revision
        (overlay / "custom" / "chunk" / "chunk.rego").write_text(DENY.format(f"r{last}"))
        writer = stepped(*arguments)
        for _ in range(last + 1):
            next(writer)
        writer.close()
        killed = read_source(live).revision if live.exists() else None
        assert assemble(*arguments).exit_code == 0
        found.append(
            "none"
            if killed is None
            else "old"
            if killed == before
            else "new"
            if killed == read_source(live).revision
            else "part"
        )

    assert (found, len(renamings)) == (["old", "old", "old", "none", "new"], 2)


def test_what_is_assembled_holds_a_list_of_all_its_files(base: Path, overlay: Path, tmp_path: Path) -> None:
    (overlay / "README.md").write_text("What we decide.")
    assert assemble("--policy", base, "--overlay", overlay, "--output", tmp_path / "policy").exit_code == 0

    checked = subprocess.run(
        ["sha256sum", "--strict", "-c", ".digests"], cwd=tmp_path / "policy", capture_output=True, text=True
    )
    assert (checked.returncode, sorted(checked.stdout.splitlines())) == (
        0,
        ["README.md: OK", "chunk/chunk.rego: OK", "custom/chunk/chunk.rego: OK", "system/authz.rego: OK"],
    )
    assert read_source(tmp_path / "policy").listed


def test_nothing_is_left_beside_what_was_assembled(base: Path, overlay: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert (
            assemble(
                "--policy", base, "--overlay", overlay, "--output", tmp_path / "build" / "policy"
            ).exit_code
            == 0
        )

    assert [path.name for path in (tmp_path / "build").iterdir()] == ["policy"]


def test_base_of_which_a_part_is_missing_is_not_assembled(base: Path, overlay: Path, tmp_path: Path) -> None:
    assert assemble("--policy", base, "--overlay", overlay, "--output", tmp_path / "first").exit_code == 0
    (tmp_path / "first" / "chunk" / "chunk.rego").unlink()

    result = assemble("--policy", tmp_path / "first", "--overlay", overlay, "--output", tmp_path / "second")
    assert (
        result.exit_code,
        "chunk/chunk.rego is missing" in result.output,
        (tmp_path / "second").exists(),
    ) == (1, True, False)


# ---------------------------------------------------------------- over what


def test_what_is_taken_out_of_the_overlay_is_gone_from_what_is_configured_when_it_is_assembled_again(
    tmp_path: Path, overlay: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "regate.yaml").write_text("opa: {bundle: build/policy}\n")
    (overlay / "custom" / "store").mkdir()
    (overlay / "custom" / "store" / "store.rego").write_text(
        "package regate.custom.store\n\ngrant if input.principal.id\n"
    )
    held = []
    for _ in range(3):
        assert assemble("--overlay", "overlay", "--output", "build/policy").exit_code == 0
        held.append(
            set(files_of(tmp_path / "build/policy")) - set(files_of(shipped_policies())) - {".digests"}
        )
        (overlay / "custom" / "store" / "store.rego").unlink(missing_ok=True)

    assert held == [
        {"custom/chunk/chunk.rego", "custom/store/store.rego"},
        {"custom/chunk/chunk.rego"},
        {"custom/chunk/chunk.rego"},
    ]


def test_overlay_is_built_over_the_shipped_policies_too_and_not_over_the_configured_ones(
    tmp_path: Path, overlay: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_policies(tmp_path / "mine", {"chunk/chunk.rego": "package regate.chunk\n\nallow if {"})
    (tmp_path / "regate.yaml").write_text("opa: {bundle: mine}\n")
    build = ["policy", "build", "--output", "b.tar.gz"]

    over = CliRunner().invoke(main, [*build, "--overlay", "overlay"])
    alone = CliRunner().invoke(main, build)
    assert (over.exit_code, alone.exit_code, "rego_parse_error" in alone.output) == (0, 1, True), over.output


def test_overlay_is_assembled_where_a_bundle_is_configured(
    tmp_path: Path, overlay: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.tar.gz").write_bytes(b"")
    (tmp_path / "regate.yaml").write_text("opa: {bundle: policy.tar.gz, verification_key: public.pem}\n")

    assert assemble("--overlay", "overlay", "--output", "out").exit_code == 0


def test_base_that_is_given_is_the_base(base: Path, overlay: Path, tmp_path: Path) -> None:
    assert assemble("--policy", base, "--overlay", overlay, "--output", tmp_path / "policy").exit_code == 0

    assert files_of(tmp_path / "policy") == [
        ".digests",
        "chunk/chunk.rego",
        "custom/chunk/chunk.rego",
        "system/authz.rego",
    ]


def test_directory_within_its_own_base_is_assembled_again_and_again_and_never_copied_into_itself(
    base: Path, overlay: Path
) -> None:
    held = []
    for _ in range(3):
        result = assemble("--policy", base, "--overlay", overlay, "--output", base / "build" / "policy")
        assert result.exit_code == 0, result.output
        held.append(files_of(base / "build" / "policy"))

    assert held == [[".digests", "chunk/chunk.rego", "custom/chunk/chunk.rego", "system/authz.rego"]] * 3


def test_directory_that_is_its_own_base_gets_the_overlay(base: Path, overlay: Path, tmp_path: Path) -> None:
    live = tmp_path / "policy"
    assert assemble("--policy", base, "--overlay", overlay, "--output", live).exit_code == 0
    amend(overlay)

    assert assemble("--policy", live, "--overlay", overlay, "--output", live).exit_code == 0
    assert read_source(live).files["custom/chunk/chunk.rego"] == DENY.format("intern").encode()


# ---------------------------------------------------------------- over nothing else


def test_hand_made_changes_in_an_earlier_assembly_are_refused_by_the_gateway_and_replaced(
    base: Path, overlay: Path, tmp_path: Path
) -> None:
    live = tmp_path / "policy"
    arguments = ("--policy", base, "--overlay", overlay, "--output", live)
    assert assemble(*arguments).exit_code == 0
    (live / "chunk" / "chunk.rego").write_text(ALLOW + "\nallow if true\n")
    with pytest.raises(IncompletePolicy):
        read_source(live)

    assert assemble(*arguments).exit_code == 0
    assert read_source(live).files["chunk/chunk.rego"] == ALLOW.encode()


@pytest.mark.parametrize("name", ["notes.txt", "mine.rego", ".git/HEAD", "chunk/.hidden"])
@pytest.mark.parametrize("assembled", [True, False])
def test_what_no_assembly_wrote_is_left_alone(
    name: str, assembled: bool, base: Path, overlay: Path, tmp_path: Path
) -> None:
    live = tmp_path / "policy"
    arguments = ("--policy", base, "--overlay", overlay, "--output", live)
    if assembled:
        assert assemble(*arguments).exit_code == 0
    (live / name).parent.mkdir(parents=True, exist_ok=True)
    (live / name).write_text("mine")
    before = files_of(live)

    result = assemble(*arguments)
    assert (result.exit_code, files_of(live), "no assembly wrote" in result.output) == (1, before, True)


@pytest.mark.parametrize("output", ["overlay", "overlay/policy", ".", "overlay/custom"])
def test_overlay_is_never_written_to_nor_over(output: str, base: Path, overlay: Path, tmp_path: Path) -> None:
    before = files_of(tmp_path)

    result = assemble("--policy", base, "--overlay", overlay, "--output", tmp_path / output)
    assert (result.exit_code, files_of(tmp_path)) == (1, before)


def test_file_in_the_place_of_the_directory_is_left_alone(base: Path, overlay: Path, tmp_path: Path) -> None:
    (tmp_path / "policy").write_text("mine")

    assert assemble("--policy", base, "--overlay", overlay, "--output", tmp_path / "policy").exit_code == 1
    assert (tmp_path / "policy").read_text() == "mine"


def test_empty_directory_and_a_new_one_are_filled(base: Path, overlay: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new/within/new"):
        assert assemble("--policy", base, "--overlay", overlay, "--output", tmp_path / name).exit_code == 0
        assert read_source(tmp_path / name).listed


def test_assembly_that_fails_leaves_the_earlier_one(base: Path, overlay: Path, tmp_path: Path) -> None:
    live = tmp_path / "policy"
    assert assemble("--policy", base, "--overlay", overlay, "--output", live).exit_code == 0
    before = read_source(live).revision
    (overlay / "chunk" / "chunk.rego").mkdir(parents=True)  # a folder where the base has a file

    result = assemble("--policy", base, "--overlay", overlay, "--output", live)
    assert (
        result.exit_code,
        read_source(live).revision,
        [path.name for path in tmp_path.glob(".policy*")],
    ) == (1, before, [])


def test_link_to_a_directory_stays_a_link(base: Path, overlay: Path, tmp_path: Path) -> None:
    (tmp_path / "releases" / "one").mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/one")

    assert assemble("--policy", base, "--overlay", overlay, "--output", tmp_path / "current").exit_code == 0
    assert ((tmp_path / "current").is_symlink(), read_source(tmp_path / "releases" / "one").listed) == (
        True,
        True,
    )
