"""What looks for leaks in the fault table sees one: a table of zeros must mean something."""

from __future__ import annotations

from pathlib import Path

from bench.faults.watching import Watch, canary_of


def test_canary_of_another_tenant_is_a_leak_wherever_it_is_seen(tmp_path: Path) -> None:
    watch, own, foreign = Watch(), canary_of("acme"), canary_of("globex")
    watch.reply("acme", "respond", f"It says {own}.".encode())
    watch.prompt(f"{own} and {own}")
    (tmp_path / "log").write_text("nothing\n")
    watch.files(tmp_path / "log", tmp_path / "absent")
    before = list(watch.leaks)
    watch.reply("acme", "respond", f"It says {foreign}.".encode())
    watch.prompt(f"{own} and {foreign}")
    with (tmp_path / "log").open("a") as log:
        log.write(f"{own}\n")
    watch.files(tmp_path / "log")

    assert (before, len(watch.leaks)) == ([], 3)
    assert dict(watch.places) == {"replies": 2, "prompts": 2, "log lines": 2}


def test_error_that_is_no_envelope_or_a_fault_of_ours_is_told_wrongly() -> None:
    watch = Watch()
    watch.error("find", 503, b'{"error": {"message": "m", "type": "t", "code": "c"}}')
    before = list(watch.malformed)
    watch.error("find", 503, b"<html>")
    watch.error("find", 500, b'{"error": {"message": "m", "type": "t", "code": "c"}}')

    assert (before, len(watch.malformed)) == ([], 2)
