"""`regate audit verify` and `key`: whether an audit log is what its gateway wrote, and the key that says so.
How that is found out is the adapter's (`regate_adapters.audit.verifying`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from regate_gateway.cli.options import config_option, data_dir_option, overrides
from regate_orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    from regate_adapters.audit.findings import Findings
    from regate_adapters.audit.signing import PublicKey
    from regate_gateway.config.settings import Settings

_QUIET_SECONDS: Final = 2.0
_COPIES: Final = "checkpoints.jsonl"

key_option = click.option(
    "--public-key",
    "key_files",
    multiple=True,
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="Public key of the gateway, as regate audit key prints it (repeatable).  [default: this gateway's]",
)
"""Commands that verify signatures take it."""


@click.command()
@click.option(
    "--log",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Directory of the audit log, or of those of workers.  [default: audit.path]",
)
@key_option
@click.option(
    "--checkpoints",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="The copies of checkpoints.  [default: audit.checkpoints, or checkpoints.jsonl in --log]",
)
@click.option(
    "--without-copies",
    is_flag=True,
    help="Verify without the copies; whether the log was cut at its end is not known then.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was found as one JSON object.")
@config_option
@data_dir_option
def verify(
    config: Path | None,
    data_dir: Path | None,
    log: Path | None,
    key_files: tuple[Path, ...],
    checkpoints: Path | None,
    *,
    without_copies: bool,
    as_json: bool,
) -> None:
    """Find out whether any record was changed, removed, added or moved, or the log cut at its end.

    Exit code 0 when the log is whole, 1 when it is not: each fault is named with its segment and line. A log
    may begin with a later segment, since old ones are deleted. What came after the last checkpoint could be
    cut or rewritten unseen; the report says how much that is.
    """
    from regate_adapters.audit.verifying import verify as verified
    from regate_gateway.config.loading import load_settings

    settings = load_settings(config, overrides=overrides(data_dir=data_dir))
    copies = _copies_of(settings, log)
    if checkpoints is not None:
        if len(copies) > 1:
            raise click.UsageError("--checkpoints is of one log: name the log of one worker with --log")
        copies = dict.fromkeys(copies, checkpoints)
    keys = public_keys(settings, key_files)
    found: dict[Path, Findings] = {}
    for place, its_copies in copies.items():
        try:
            found[place] = verified(
                place, keys, copies=None if without_copies else its_copies, progress=_Progress()
            )
        except OSError as error:
            raise ConfigurationError(f"{place} cannot be read: {error.strerror}") from error
        if not found[place].records:
            raise ConfigurationError(f"there is no audit record in {place}")
    if as_json:
        click.echo(_as_json(found))
    else:
        click.echo("\n".join(_report(*one, compared=not without_copies) for one in found.items()))
    sys.exit(0 if all(one.is_whole for one in found.values()) else 1)


@click.command()
@config_option
@data_dir_option
def key(config: Path | None, data_dir: Path | None) -> None:
    """Print the public key that verifies the checkpoints of this gateway's audit log.

    Keep it where the gateway cannot write: whoever can replace both the log and the key that you verify it
    with can show you a log of their own.
    """
    from regate_gateway.composition.auditing import own_signing_key, signing_key
    from regate_gateway.config.loading import load_settings

    settings = load_settings(config, overrides=overrides(data_dir=data_dir))
    own = own_signing_key(settings)
    is_new = own is not None and not own.exists()
    public = signing_key(settings).public
    if is_new:
        click.echo(f"regate: there was no key, so {own} was made", err=True)
    click.echo(f"regate: its id is {public.id}", err=True)
    click.echo(public.pem, nl=False)


def public_keys(settings: Settings, files: tuple[Path, ...]) -> Mapping[str, PublicKey]:
    """Return the keys in the files by their ids, or this gateway's own. Raises `ConfigurationError` when
    there is none, since nothing is made here.
    """
    from regate_adapters.audit.signing import read_public_key
    from regate_gateway.composition.auditing import own_signing_key, signing_key

    keys = [read_public_key(file.read_text("utf-8", "replace"), setting="--public-key") for file in files]
    if not keys:
        own = own_signing_key(settings)
        if own is not None and not own.exists():
            raise ConfigurationError(
                f"there is no key in {own}: name the one that regate audit key printed with --public-key"
            )
        keys = [signing_key(settings).public]
    return {one.id: one for one in keys}


def each_log(directories: Sequence[Path]) -> tuple[Path, ...]:
    """Return the logs in these directories, those of workers each by itself. Raises `ConfigurationError`."""
    from regate_adapters.audit.segments import logs_in

    found: list[Path] = []
    for directory in directories:
        try:
            found += logs_in(directory)
        except OSError as error:
            raise ConfigurationError(f"{directory} cannot be read: {error.strerror}") from error
    return tuple(found)


def _copies_of(settings: Settings, log: Path | None) -> dict[Path, Path]:
    """Return the logs to verify, each with the copies of its checkpoints."""
    if log is not None:
        return {one: one / _COPIES for one in each_log([log])}
    from regate_adapters.audit.segments import worker_of
    from regate_gateway.composition.auditing import audit_of

    logs = each_log([settings.audit.path])
    return {one: audit_of(settings, worker_of(one)).checkpoints for one in logs}


class _Progress:
    """Tells on standard error, every other second, how far a long log was verified."""

    def __init__(self) -> None:
        self._began = self._told = time.monotonic()

    def __call__(self, records: int, count: int) -> None:
        now = time.monotonic()
        if now - self._told >= _QUIET_SECONDS:
            self._told = now
            rate = records / (now - self._began)
            said = f"regate: {records:,} records, {count / 2**20:,.0f} MiB verified, {rate:,.0f} a second"
            click.echo(said, err=True)


def _as_json(found: Mapping[Path, Findings]) -> str:
    """Return the findings: of one log by themselves, of several each with its log."""
    import orjson

    each = {
        str(log): {"ok": one.is_whole, **asdict(one), "unsigned": one.unsigned} for log, one in found.items()
    }
    ok = all(one.is_whole for one in found.values())
    shown = {"ok": ok, "logs": each} if len(each) > 1 else next(iter(each.values()))
    return orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode()


def _report(place: Path, found: Findings, *, compared: bool) -> str:
    lines = [
        f"{fault.what:<11}{fault.file}:{fault.line}"
        f"{'' if fault.seq is None else f' (record {fault.seq})'}: {fault.says}"
        for fault in found.faults
    ]
    if found.fault_count > len(found.faults):
        lines.append(f"… and {found.fault_count - len(found.faults)} faults more")
    extent = f"records {found.first} to {found.last} in {found.segments} segments"
    lines.append(f"{place}: {extent}, the last of {found.last_at}")
    lines += _notes(found, compared=compared)
    lines.append("The log is whole." if found.is_whole else f"NOT WHOLE: {found.fault_count} faults.")
    return "\n".join(lines)


def _notes(found: Findings, *, compared: bool) -> list[str]:
    notes = []
    if found.chained_from is not None and found.chained_from != found.first:
        notes.append(f"Records before {found.chained_from} are of before the chain: nothing is said of them.")
    elif found.first is not None and found.first > 1:
        notes.append(f"It begins with record {found.first}: earlier segments are not there.")
    if found.signed_to is not None:
        notes.append(f"The last checkpoint is record {found.signed_to}, signed at {found.signed_at}.")
        notes.append(
            f"{found.unsigned} records came after it. They are chained, and could have been cut or rewritten "
            f"unseen: a checkpoint is made every {found.every_s} s."
        )
    if found.unfinished_bytes:
        notes.append(f"The last line is being written, or torn ({found.unfinished_bytes} bytes).")
    if found.unreadable_copies:
        notes.append(f"{found.unreadable_copies} lines of the copies could not be read, and count as absent.")
    if not compared:
        notes.append("Without the copies of checkpoints it is not known whether the log was cut at its end.")
    return notes
