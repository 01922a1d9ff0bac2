"""The command line as a process: output, exit codes, and a light start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jwt
import pytest


def regate(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("REGATE_")}
    command = [sys.executable, "-m", "regate_gateway", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=inherited | environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_help_names_every_command_and_exits_0(tmp_path: Path) -> None:
    done = regate("--help", cwd=tmp_path)
    assert (
        done.returncode,
        "token" in done.stdout,
        "config" in done.stdout,
        done.stdout.startswith("Usage: regate "),
    ) == (
        0,
        True,
        True,
        True,
    )


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, regate_gateway.cli.main; print([m for m in ('aiohttp', 'chromadb', 'pydantic', "
        "'numpy', 'uvicorn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["tokn"],
        ["token", "--sub", "a"],
        ["token", "--sub", "a", "--tenant", "b", "--ttl", "1"],
        ["config", "chek"],
    ],
)
def test_wrong_usage_exits_2(tmp_path: Path, arguments: list[str]) -> None:
    assert regate(*arguments, cwd=tmp_path).returncode == 2


def test_token_prints_a_token_alone(tmp_path: Path) -> None:
    done = regate(
        "token",
        "--sub",
        "alice",
        "--tenant",
        "acme",
        "--team",
        "hr",
        "--team",
        "staff",
        "--clearance",
        "2",
        cwd=tmp_path,
    )
    secret = (tmp_path / "data" / "development.secret").read_text(encoding="ascii").strip()
    claims = jwt.decode(
        done.stdout.strip(), secret, algorithms=["HS256"], audience="regate", issuer="regate-dev"
    )
    found = {name: claims[name] for name in ("sub", "tenant", "teams", "roles", "clearance")}
    assert (done.returncode, found) == (
        0,
        {"sub": "alice", "tenant": "acme", "teams": ["hr", "staff"], "roles": [], "clearance": 2},
    )


def test_token_says_on_standard_error_when_it_made_the_secret_and_then_no_more(tmp_path: Path) -> None:
    asked = ("token", "--data-dir", "kept", "--sub", "alice", "--tenant", "acme")
    first, second = regate(*asked, cwd=tmp_path), regate(*asked, cwd=tmp_path)
    said = (
        "regate: there was no secret, so kept/development.secret was made; only a gateway with this "
        "data_dir takes the token\n"
    )
    assert (first.stderr, second.stderr, (tmp_path / "data").exists()) == (said, "", False)


def test_token_as_json_says_for_whom_it_is(tmp_path: Path) -> None:
    done = regate(
        "token", "--sub", "alice", "--tenant", "acme", "--role", "store_admin", "--json", cwd=tmp_path
    )
    shown = json.loads(done.stdout)
    assert (shown["subject"], shown["roles"], shown["issuer"], shown["token"].count(".")) == (
        "alice",
        ["store_admin"],
        "regate-dev",
        2,
    )


def test_token_that_the_gateway_would_refuse_exits_1(tmp_path: Path) -> None:
    done = regate("token", "--sub", "two words", "--tenant", "acme", cwd=tmp_path)
    assert (done.returncode, done.stdout, "sub has the wrong type or form" in done.stderr) == (1, "", True)


def test_check_accepts_the_defaults_and_makes_nothing(tmp_path: Path) -> None:
    done = regate("config", "check", cwd=tmp_path)
    assert (done.returncode, "accepted" in done.stdout, list(tmp_path.iterdir())) == (0, True, [])


def test_check_names_the_fault_and_exits_1(tmp_path: Path) -> None:
    (tmp_path / "regate.yaml").write_text("listen: {prot: 1}\n", encoding="utf-8")
    done = regate("config", "check", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        1,
        "regate: listen.prot: there is no such setting; did you mean 'port'?\n",
    )


def test_check_as_json_lists_the_faults(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("listen: {host: 0.0.0.0}\n", encoding="utf-8")
    done = regate("config", "check", "--json", "--config", "other.yaml", cwd=tmp_path)
    result = json.loads(done.stdout)
    assert (done.returncode, result["ok"], len(result["faults"])) == (1, False, 1)


def test_check_looks_for_the_secrets_that_settings_name(tmp_path: Path) -> None:
    (tmp_path / "regate.yaml").write_text(
        "upstreams: [{name: a, base_url: 'http://h', api_key_env: BACKEND_KEY}]\n", encoding="utf-8"
    )
    without, with_key = (
        regate("config", "check", cwd=tmp_path),
        regate("config", "check", cwd=tmp_path, BACKEND_KEY="k"),
    )
    assert (without.returncode, "BACKEND_KEY" in without.stderr, with_key.returncode) == (1, True, 0)


def test_start_says_what_the_check_does_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "regate.yaml").write_text(
        "{opa: {bundle: /nope}, data_dir: here, audit: {path: /proc/x}}", encoding="utf-8"
    )
    checked, started = regate("config", "check", cwd=tmp_path), regate("serve", cwd=tmp_path)
    said = [line for line in started.stderr.splitlines() if not line.startswith("{")]
    assert (started.returncode, said, (tmp_path / "here").exists()) == (1, checked.stderr.splitlines(), False)


def test_show_prints_the_effective_settings_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / "regate.yaml").write_text(
        "upstreams: [{name: a, base_url: 'http://h', api_key_env: BACKEND_KEY}]\n", encoding="utf-8"
    )
    done = regate(
        "config", "show", "--json", cwd=tmp_path, BACKEND_KEY="very-secret", REGATE_LISTEN__PORT="9"
    )
    shown = json.loads(done.stdout)
    found = (shown["listen"]["port"], shown["upstreams"][0]["api_key_env"], "very-secret" in done.stdout)
    assert found == (9, "BACKEND_KEY", False)


def test_file_named_in_the_environment_is_used(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.yaml").write_text("listen: {port: 77}\n", encoding="utf-8")
    done = regate("config", "show", cwd=tmp_path, REGATE_CONFIG="elsewhere.yaml")
    assert "  port: 77\n" in done.stdout


def test_a_gateway_that_connects_nowhere_does_not_load_what_connects() -> None:
    code = (
        "import sys, regate_gateway.composition.wiring\n"
        "print([name for name in ('httpx2', 'mcp') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
