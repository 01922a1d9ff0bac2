"""`regate audit verify` and `key` over real logs, as an operator and an auditor use them."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from regate_adapters.audit.segments import segments_in
from regate_gateway.cli.main import main
from regate_gateway.composition.auditing import open_audit
from regate_gateway.config.loading import load_settings


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["audit", *map(str, arguments)])


def recorded(data_dir: Path, count: int = 5, *, worker: int | None = None, **audit: Any) -> Path:
    """A log in this data directory, as a gateway leaves it. Returns the log's directory."""
    settings = load_settings(None, overrides={"data_dir": str(data_dir), "audit": audit})

    async def record() -> None:
        async with open_audit(settings, worker) as log:
            for number in range(count):
                await log.record({"kind": "decisions", "phase": "x", "request_id": f"req_{number}"})

    asyncio.run(record())
    return settings.audit.path


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_whole_log_is_said_to_be_and_how_much_has_no_checkpoint(tmp_path: Path) -> None:
    recorded(tmp_path / "data")
    done = run("verify", "--data-dir", tmp_path / "data")

    assert (done.exit_code, "The log is whole." in done.stdout) == (0, True)
    assert "0 records came after it" in done.stdout
    assert "every 60 s" in done.stdout


def test_altered_record_is_named_by_its_segment_and_line(tmp_path: Path) -> None:
    log = recorded(tmp_path / "data")
    (segment,) = segments_in(log)
    segment.write_bytes(segment.read_bytes().replace(b"req_2", b"req_9"))
    done = run("verify", "--data-dir", tmp_path / "data")

    assert done.exit_code == 1
    assert f"altered    {segment.name}:4 (record 4)" in done.stdout
    assert "NOT WHOLE: 1 faults." in done.stdout


def test_what_was_found_is_one_json_object(tmp_path: Path) -> None:
    log = recorded(tmp_path / "data")
    whole = json.loads(run("verify", "--json", "--data-dir", tmp_path / "data").stdout)
    segments_in(log)[0].write_bytes(segments_in(log)[0].read_bytes().replace(b"req_2", b"req_9"))
    altered = json.loads(run("verify", "--json", "--data-dir", tmp_path / "data").stdout)

    assert (whole["ok"], whole["records"], whole["signed_to"], whole["unsigned"]) == (True, 6, 6, 0)
    assert (altered["ok"], altered["faults"][0]["what"], altered["faults"][0]["line"]) == (
        False,
        "altered",
        4,
    )


def test_auditor_needs_the_segments_the_copies_and_the_public_key(tmp_path: Path) -> None:
    log = recorded(tmp_path / "data")
    (tmp_path / "key.pem").write_text(run("key", "--data-dir", tmp_path / "data").stdout)
    elsewhere = shutil.copytree(log, tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "data")
    given = ["--log", elsewhere, "--public-key", tmp_path / "key.pem"]

    assert run("verify", *given).exit_code == 0
    assert run("verify", "--log", elsewhere).exit_code == 1  # without any key nothing is said to be whole
    (elsewhere / "checkpoints.jsonl").rename(tmp_path / "copies")
    assert run("verify", *given).exit_code == 1
    assert run("verify", *given, "--checkpoints", tmp_path / "copies").exit_code == 0
    assert "not known whether the log was cut" in run("verify", *given, "--without-copies").stdout


def test_verifying_makes_no_key(tmp_path: Path) -> None:
    log = recorded(tmp_path / "data")
    key = tmp_path / "data/audit-signing.secret"
    key.unlink()
    done = run("verify", "--data-dir", tmp_path / "data")

    assert (done.exit_code, "there is no key" in done.stderr, key.exists()) == (1, True, False)
    assert run("verify", "--log", log, "--data-dir", tmp_path / "other").exit_code == 1


def test_an_empty_directory_is_no_log_that_is_whole(tmp_path: Path) -> None:
    recorded(tmp_path / "data", count=0)
    done = run("verify", "--data-dir", tmp_path / "data")

    assert (done.exit_code, "there is no audit record" in done.stderr) == (1, True)


def test_copies_go_where_the_operator_says_and_show_that_the_end_is_gone(tmp_path: Path) -> None:
    elsewhere = tmp_path / "worm" / "gw1.jsonl"
    log = recorded(tmp_path / "data", checkpoints=str(elsewhere))
    before = {path: path.read_bytes() for path in segments_in(log)}
    recorded(tmp_path / "data", checkpoints=str(elsewhere))
    for path, content in before.items():
        path.write_bytes(content)
    done = run("verify", "--data-dir", tmp_path / "data", "--checkpoints", elsewhere)

    assert done.exit_code == 1
    assert "cut        gw1.jsonl:2 (record 12): the log ends with record 6" in done.stdout


@pytest.mark.parametrize("form", ["pem", "base64", "hex"])
@pytest.mark.parametrize("given", ["file", "env"])
def test_key_is_configured_in_any_form_and_openssl_reads_the_public_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, given: str
) -> None:
    pem = subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, text=True, check=True
    ).stdout
    raw = base64.b64decode("".join(pem.splitlines()[1:-1]))[-32:]
    text = {"pem": pem, "base64": base64.b64encode(raw).decode(), "hex": raw.hex()}[form]
    file = tmp_path / "key"
    file.write_text(text)
    file.chmod(0o600)
    monkeypatch.setenv("THE_KEY", text)
    option, value = ("FILE", str(file)) if given == "file" else ("ENV", "THE_KEY")
    monkeypatch.setenv(f"REGATE_AUDIT__SIGNING_KEY_{option}", value)
    derived = subprocess.run(
        ["openssl", "pkey", "-pubout"], input=pem, capture_output=True, text=True, check=True
    ).stdout

    assert run("key", "--data-dir", tmp_path / "data").stdout == derived
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not a key",
        "YWJj",
        "-----BEGIN PRIVATE KEY-----\nYWJj\n-----END PRIVATE KEY-----\n",
        "-----BEGIN EC PRIVATE KEY-----\n-----END EC PRIVATE KEY-----\n",
    ],
)
def test_what_is_no_key_is_refused_before_the_start_without_showing_it(tmp_path: Path, text: str) -> None:
    file = tmp_path / "key"
    file.write_text(text)
    file.chmod(0o600)
    (tmp_path / "regate.yaml").write_text(f"audit: {{signing_key_file: {file}}}")
    done = CliRunner().invoke(main, ["config", "check"])

    assert (done.exit_code, "audit.signing_key_file: this is no signing key" in done.stderr) == (1, True)
    assert not text or text not in done.stderr


def test_own_key_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    recorded(tmp_path / "data")

    assert (tmp_path / "data/audit-signing.secret").stat().st_mode & 0o777 == 0o600


def test_options_before_a_command_are_refused_rather_than_ignored(tmp_path: Path) -> None:
    done = run("--log", tmp_path, "verify")

    assert (done.exit_code, "--log does nothing before verify" in done.stderr) == (2, True)


def test_checkpoints_are_not_among_the_records_that_are_shown(tmp_path: Path) -> None:
    log = recorded(tmp_path / "data", count=2)

    assert [json.loads(line)["kind"] for line in run("--log", log, "--json").stdout.splitlines()] == [
        "decisions",
        "decisions",
    ]


def test_receipts_that_are_none_are_wrong_usage_and_unknown_ones_are_not_found(tmp_path: Path) -> None:
    recorded(tmp_path / "data")
    given = ["--data-dir", tmp_path / "data"]
    none, unknown = (
        run("receipt", "42", *given),
        run("receipt", f"2026-11-29T14:39:18.489Z/{'a' * 64}", *given),
    )

    assert (none.exit_code, "this is no receipt" in none.stderr) == (2, True)
    assert (unknown.exit_code, unknown.stdout.startswith("NOT THERE")) == (1, True)


def test_logs_of_workers_are_verified_each_with_its_copies(tmp_path: Path) -> None:
    for worker in (1, 2):
        log = recorded(tmp_path / "data", worker=worker)
    whole = run("verify", "--data-dir", tmp_path / "data")
    (segment,) = segments_in(log / "worker-2")
    segment.write_bytes(segment.read_bytes().replace(b"req_2", b"req_9"))
    altered = run("verify", "--data-dir", tmp_path / "data", "--json")
    found = json.loads(altered.stdout)

    assert (whole.exit_code, whole.stdout.count("The log is whole.")) == (0, 2)
    assert (altered.exit_code, found["ok"]) == (1, False)
    assert {Path(one).name: said["ok"] for one, said in found["logs"].items()} == {
        "worker-1": True,
        "worker-2": False,
    }


def test_copies_elsewhere_are_a_file_of_each_worker(tmp_path: Path) -> None:
    copies = str(tmp_path / "vault" / "copies.jsonl")
    for worker in (1, 2):
        log = recorded(tmp_path / "data", worker=worker, checkpoints=copies)
    (tmp_path / "regate.yaml").write_text(
        f"data_dir: {tmp_path / 'data'}\naudit: {{checkpoints: {copies}}}\n"
    )
    whole = run("verify")
    (segment,) = segments_in(log / "worker-1")
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join(lines[:-2]))
    cut = run("verify")

    assert sorted(path.name for path in (tmp_path / "vault").iterdir()) == [
        "copies-worker-1.jsonl",
        "copies-worker-2.jsonl",
    ]
    assert (whole.exit_code, cut.exit_code) == (0, 1)


def test_copies_that_are_named_are_of_one_log(tmp_path: Path) -> None:
    for worker in (1, 2):
        log = recorded(tmp_path / "data", worker=worker)
    copies = log / "worker-1" / "checkpoints.jsonl"

    assert run("verify", "--data-dir", tmp_path / "data", "--checkpoints", copies).exit_code == 2
    assert run("verify", "--data-dir", tmp_path / "data", "--log", log / "worker-1").exit_code == 0


def test_log_of_before_the_workers_is_read_with_theirs(tmp_path: Path) -> None:
    for worker in (None, 1, 10, 2):
        recorded(tmp_path / "data", worker=worker)
    done = run("verify", "--data-dir", tmp_path / "data", "--json")
    names = [Path(log).name for log in json.loads(done.stdout)["logs"]]

    assert (done.exit_code, names) == (0, ["audit", "worker-1", "worker-2", "worker-10"])
