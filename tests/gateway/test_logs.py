"""Log lines: one JSON object each, with listed fields only."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

from regate_gateway.telemetry.logs import _FIELDS, JsonLines


def line(message: str, **extra: object) -> str:
    record = logging.LogRecord("regate.test", logging.INFO, "f", 1, message, None, None)
    vars(record).update(extra)
    return JsonLines().format(record)


def test_line_is_one_json_object() -> None:
    found = json.loads(line("request", status=200, request_id="req_1"))
    assert {name: found[name] for name in ("level", "logger", "message", "status", "request_id")} == {
        "level": "info",
        "logger": "regate.test",
        "message": "request",
        "status": 200,
        "request_id": "req_1",
    }


def test_field_that_is_not_listed_is_not_written() -> None:
    assert "secret" not in line("request", token="secret", authorization="secret")


def test_text_cannot_forge_a_line_or_move_the_cursor() -> None:
    written = line("a\r\nb\x1b[2J\x9b\u2028", path="/v1\n{}")
    assert (written.isascii(), written.isprintable()) == (True, True)


def test_odd_text_does_not_cost_the_line() -> None:
    assert json.loads(line("odd \ud800"))["message"] == "odd \ud800"


def test_every_field_that_a_call_adds_is_written() -> None:
    root = Path(__file__).parents[2]
    sources = [
        path.read_text()
        for folder in ("orchestrator", "adapters", "gateway")
        for path in (root / folder).rglob("*.py")
    ]
    added = {
        name
        for text in sources
        for extra in re.findall(r"[(, ]extra=\{([^}]*)\}", text)
        for name in re.findall(r'"([a-z_]+)":', extra)
    }

    assert {"request_id", "detail"} < added
    assert added - set(_FIELDS) == set()


def test_what_libraries_log_of_addresses_and_servers_words_is_not_written() -> None:
    """Even when debugging: they log query strings, headers, and what a server sent."""
    code = """
import logging
from regate_gateway.telemetry.logs import configure_logging
configure_logging("debug")
for name, level in (
    ("httpx2", "INFO"), ("httpcore2.http11", "DEBUG"), ("httpx", "INFO"), ("httpcore.http11", "DEBUG"),
    ("mcp.client.streamable_http", "ERROR"),
    ("client", "ERROR"), ("regate.test", "DEBUG"),
):
    logging.getLogger(name).log(logging.getLevelName(level), "from %s", name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert [json.loads(one)["logger"] for one in done.stderr.splitlines()] == ["regate.test"]
