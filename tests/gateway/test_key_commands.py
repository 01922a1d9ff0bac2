"""`regate key`: what it refuses, in words that say what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from regate_gateway.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("create", "--tenant", "acme", "--subject", "a b"), "is no name"),
        (("create", "--tenant", "acme", "--subject", "a", "--expires", "90"), "write 30m, 12h, 90d"),
        (("create", "--subject", "a"), "Missing option '--tenant'"),
        (("revoke", "rgk_000000000000"), "there is no such key"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    done = CliRunner().invoke(main, ["key", *arguments, "--data-dir", str(tmp_path / "data")])
    assert (done.exit_code != 0, says in done.output) == (True, True)
