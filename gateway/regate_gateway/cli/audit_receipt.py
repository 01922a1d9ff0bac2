"""`regate audit receipt`: what an answer's receipt proves. How that is looked up is the adapter's
(`regate_adapters.audit.receipts`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from regate_gateway.cli.audit_checks import each_log, key_option, public_keys
from regate_gateway.cli.options import config_option, data_dir_option, overrides
from regate_gateway.cli.texts import plain
from regate_orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    from regate_adapters.audit.receipts import LookedUp

_SAID: Final = {
    "signed": "The record is in the log as it was at the time of the receipt. A checkpoint vouches for it.",
    "unsigned": "The record is in the log as it was at the time of the receipt. No checkpoint vouches yet.",
    "absent": "NOT THERE: the log has no such record. It was altered, removed, or deleted with its segment, "
    "or the receipt is another gateway's.",
}
"""What is said of each outcome, the best first."""


@click.command()
@click.argument("value", metavar="RECEIPT")
@click.option(
    "--log",
    "logs",
    multiple=True,
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Directory to look in (repeatable), such as those of several gateways.  [default: audit.path]",
)
@key_option
@click.option("--json", "as_json", is_flag=True, help="Print what was found as one JSON object.")
@config_option
@data_dir_option
def receipt(
    config: Path | None,
    data_dir: Path | None,
    value: str,
    logs: tuple[Path, ...],
    key_files: tuple[Path, ...],
    *,
    as_json: bool,
) -> None:
    """Look up the record that a receipt names (the header Regate-Receipt of an answer): whether it is in the
    log as it was, for whom it was written, and which checkpoint vouches for it.

    Exit code 0 when the record is there as it was, else 1. Whether all of the log is as it was, regate audit
    verify says.
    """
    from regate_adapters.audit.receipts import look_up, read_receipt
    from regate_gateway.config.loading import load_settings

    named = read_receipt(value)
    if named is None:
        raise click.UsageError("this is no receipt: give the whole header Regate-Receipt of an answer")
    settings = load_settings(config, overrides=overrides(data_dir=data_dir))
    keys = public_keys(settings, key_files)
    best = None
    for log in each_log(logs or (settings.audit.path,)):
        try:
            found = look_up(log, named, keys)
        except OSError as error:
            raise ConfigurationError(f"{log} cannot be read: {error.strerror}") from error
        if best is None or list(_SAID).index(found.outcome) < list(_SAID).index(best[1].outcome):
            best = (log, found)
    assert best is not None  # noqa: S101 — INVARIANT: there is at least one log
    click.echo(_as_json(*best) if as_json else _lines(*best))
    sys.exit(1 if best[1].outcome == "absent" else 0)


def _as_json(log: Path, found: LookedUp) -> str:
    import orjson

    shown = {
        "outcome": found.outcome,
        "log": str(log),
        "checkpoint": None if found.checkpoint is None else found.checkpoint.seq,
        "signed_at": None if found.checkpoint is None else found.checkpoint.at,
        "record": found.record,
    }
    return orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode()


def _lines(log: Path, found: LookedUp) -> str:
    lines = [_SAID[found.outcome]]
    if (record := found.record) is not None:
        who = f"{record.get('subject', '-')}@{record.get('tenant', '-')}"
        lines.append(f"record     {record.get('seq')} of {log}, {record.get('at')}, {record.get('phase')}")
        lines.append(f"for        {who}, {record.get('request_id')} {record.get('response_id') or ''}")
    if found.checkpoint is not None:
        lines.append(
            f"checkpoint {found.checkpoint.seq}, signed at {found.checkpoint.at} by {found.checkpoint.key}"
        )
    return "\n".join(map(plain, lines))
