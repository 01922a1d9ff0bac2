"""`regate audit`: who asked for what, what was granted, and why not, out of one audit log or several. What
records say is `telemetry/audit_records.py`.
"""

from __future__ import annotations

import heapq
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from regate_gateway.cli.audit_checks import each_log, key, verify
from regate_gateway.cli.audit_receipt import receipt
from regate_gateway.cli.audit_story_command import show
from regate_gateway.cli.options import config_option, data_dir_option, overrides
from regate_gateway.cli.texts import plain
from regate_gateway.telemetry.audit_records import Record, Wanted

if TYPE_CHECKING:
    from regate_adapters.audit.reading import AuditLogReader

_FOLLOW_SECONDS: Final = 0.5
_AGO: Final = re.compile(r"(\d+)([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Moment(click.ParamType):  # type: ignore[type-arg] # generic in click's stubs alone
    """A time, as `2026-11-29`, `2026-11-29T14:00`, `2026-11-29T14:00:00+01:00`, or so long ago: `30m`,
    `12h`, `7d`. Without a zone it is UTC.
    """

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time."""
        try:
            if (ago := _AGO.fullmatch(value)) is not None:
                return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            moment = datetime.fromisoformat(value)
            moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
            return moment.astimezone(UTC)
        except (ValueError, OverflowError):  # or it is before the first year
            self.fail(
                f"{value!r} is no time: write 2026-11-29, 2026-11-29T14:00, or so long ago as 30m, 12h, 7d",
                param,
                ctx,
            )


@click.group(invoke_without_command=True)
@click.option("--response", metavar="ID", help="Only what was decided for this response.")
@click.option("--request", metavar="ID", help="Only what was decided for this request (header x-request-id).")
@click.option("--subject", metavar="NAME", help="Only of this person.")
@click.option("--tenant", metavar="NAME", help="Only of this tenant.")
@click.option(
    "--file", metavar="ID", help="Only what is about this file or a chunk of it, and whether it was granted."
)
@click.option("--chunk", metavar="ID", help="Only what is about this chunk, and whether it was granted.")
@click.option(
    "--since",
    type=Moment(),
    metavar="TIME",
    help="Only from then on: 2026-11-29, 2026-11-29T14:00 (UTC), or so long ago: 30m, 12h, 7d.",
)
@click.option("--until", type=Moment(), metavar="TIME", help="Only before this time.")
@click.option("--denied", is_flag=True, help="Only where something was refused or withheld.")
@click.option("--follow", is_flag=True, help="Go on with what is recorded from now on, until interrupted.")
@click.option(
    "--log",
    "logs",
    multiple=True,
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Directory to read (repeatable), such as those of several gateways.  [default: audit.path]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the records as JSON lines.")
@config_option
@data_dir_option
@click.pass_context
def audit(
    context: click.Context,
    /,
    config: Path | None,
    data_dir: Path | None,
    logs: tuple[Path, ...],
    *,
    follow: bool,
    as_json: bool,
    since: Any,
    until: Any,
    **wanted: Any,
) -> None:
    """Show the audit records: every decision, by whom, under which policy revision, and what a retrieval
    filtered. Or have the commands below verify them, and tell one answer's story.

    Exit code 1 when there is no such record.

    \b
    Who saw this file, or was refused it?  regate audit --file file-…
    What was alice refused today?          regate audit --subject alice --tenant acme --denied --since 24h
    """
    from regate_gateway.config.loading import load_settings

    if context.invoked_subcommand is not None:
        _refuse_options_before(context)
        return
    places = each_log(logs or (load_settings(config, overrides=overrides(data_dir=data_dir)).audit.path,))
    _show(places, Wanted(since=_spelt(since), until=_spelt(until), **wanted), follow=follow, as_json=as_json)


audit.add_command(verify)
audit.add_command(receipt)
audit.add_command(key)
audit.add_command(show)


def _refuse_options_before(context: click.Context) -> None:
    """Refuse options that stand before a command, which would do nothing."""
    given = click.core.ParameterSource.COMMANDLINE
    for option in context.command.params:
        if option.name and context.get_parameter_source(option.name) is given:
            command = context.invoked_subcommand
            raise click.UsageError(
                f"{option.opts[0]} does nothing before {command}: write it after {command}"
            )


def _spelt(moment: datetime | None) -> str | None:
    """Return the time as records have it."""
    return (
        None
        if moment is None
        else moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def _show(logs: tuple[Path, ...], wanted: Wanted, *, follow: bool, as_json: bool) -> None:
    """Print the records, the oldest first, those of several logs by time; leaves with exit code 1
    when there is none.
    """
    from regate_adapters.audit.reading import AuditLogReader

    readers = {
        log: AuditLogReader(log, mentioning=wanted.mentioning, since=_epoch(wanted.since)) for log in logs
    }
    shown = 0
    while True:
        for log, record in _merged(readers):
            if wanted.takes(record):
                shown += 1
                click.echo(
                    _as_json(log, record, several=len(logs) > 1)
                    if as_json
                    else plain(_line(log, record, wanted, several=len(logs) > 1))
                )
        if not follow:
            break
        time.sleep(_FOLLOW_SECONDS)
    if not shown:
        click.echo(f"regate: no such record in {', '.join(map(str, logs))}", err=True)
        sys.exit(1)


def _merged(readers: dict[Path, AuditLogReader]) -> Iterator[tuple[Path, Record]]:
    streams = [_named(log, reader) for log, reader in readers.items()]
    return heapq.merge(*streams, key=lambda one: str(one[1].get("at", "")))


def _named(log: Path, reader: AuditLogReader) -> Iterator[tuple[Path, Record]]:
    for record in reader.more():
        yield log, record


def _epoch(at: str | None) -> float:
    return 0.0 if at is None else datetime.fromisoformat(at).timestamp()


def _as_json(log: Path, record: Record, *, several: bool) -> str:
    import orjson

    return orjson.dumps(dict(record) | ({"log": str(log)} if several else {})).decode()


def _line(log: Path, record: Record, wanted: Wanted, *, several: bool) -> str:
    """Return one record as a person reads it; of a file or chunk that was asked for, whether it was
    granted.
    """
    parts = [
        (
            f"{record.get('seq', '?'):>6}  {record.get('at', '')}  "
            f"{record.get('subject', '-')}@{record.get('tenant', '-')}"
        )
    ]
    parts += [str(log)] if several else []
    parts.append(str(record.get("phase") or record.get("kind")))
    if about := wanted.sightings(record):
        parts += [str(record.get("response_id") or record.get("request_id") or "")]
        parts += [f"{one.id}: {'granted' if one.granted else 'DENIED'}" for one in dict.fromkeys(about)]
        return "  ".join(part for part in parts if part)
    for decision in record.get("decisions", ()):
        verdict = "allow" if decision["allowed"] else "DENY " + ", ".join(decision.get("reasons", ()))
        parts.append(f"{decision['action']} {decision['about']}: {verdict}")
    for name, counts in record.get("batch", {}).items():
        parts.append(
            f"{name} {len(counts['admitted'])} of {len(counts['asked'])}"
            if "asked" in counts
            else f"{name} {len(counts['admitted'])}"
        )
    if found := record.get("retrieval"):
        parts.append(
            f"{found['store']}: {found['total']} chunks, {found['permitted']} permitted, "
            f"{found['returned']} returned"
        )
    return "  ".join(parts)
