"""OPA is found where it may be, taken only when new enough, and its absence said with advice."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import pytest

from regate_adapters.opa.install import OLDEST, find_opa, install, main, opa_version


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_version_is_that_of_the_program(opa: Path) -> None:
    assert (opa_version(opa) or ()) >= OLDEST


@pytest.mark.parametrize("text", ["exit 1", "echo Version: unknown", "echo Python 3.11"])
def test_program_that_is_no_opa_has_no_version(tmp_path: Path, text: str) -> None:
    assert opa_version(script(tmp_path / "opa", text)) is None


def test_given_place_comes_first_whether_directory_or_program(tmp_path: Path, opa: Path) -> None:
    (tmp_path / "opa").symlink_to(opa)

    assert find_opa([tmp_path]) == find_opa([tmp_path / "opa"]) == tmp_path / "opa"


def test_too_old_opa_is_passed_over(tmp_path: Path) -> None:
    old = script(tmp_path / "opa", "echo Version: 1.21.9")

    assert find_opa([tmp_path]) != old


def test_opa_on_path_is_linked_and_then_left_alone(
    tmp_path: Path, opa: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "opa").symlink_to(opa)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    assert main(["--into", str(tmp_path / "tools")]) == 0
    assert (tmp_path / "tools" / "opa").resolve() == opa.resolve()
    assert install(tmp_path / "tools") == tmp_path / "tools" / "opa"
    assert capsys.readouterr().out.splitlines()[-1].endswith("already")


def test_old_opa_is_replaced_by_what_go_compiles(
    tmp_path: Path, opa: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "tools" / "opa", "echo Version: 1.0.0")
    script(
        tmp_path / "bin" / "go",
        (
            f'/bin/mkdir -p "$GOBIN" && /bin/ln -s {quote(str(opa))} "$GOBIN/opa" && echo "$@" > '
            f"{quote(str(tmp_path))}/asked"
        ),
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    assert (opa_version(install(tmp_path / "tools")) or ()) >= OLDEST
    assert (tmp_path / "asked").read_text().split()[-1] == "github.com/open-policy-agent/opa@v1.22.2"
    assert [path.name for path in (tmp_path / "tools").iterdir()] == ["opa"]


def test_failure_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script(tmp_path / "bin" / "go", "echo no network >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    assert main(["--into", str(tmp_path / "tools")]) == 1
    assert "put `opa` on PATH" in capsys.readouterr().err
