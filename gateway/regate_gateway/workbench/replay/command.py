"""The command `regate policy replay`: options, progress, the table and the JSON. What is compared is
in `replaying.py`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from regate_adapters.opa.batching import BatchingEngine
from regate_gateway.workbench.options import html_option
from regate_gateway.workbench.page import Section, Table, page, write_page
from regate_gateway.workbench.replay.engine import running_policies
from regate_gateway.workbench.replay.recorded import lines_in, read_records
from regate_gateway.workbench.replay.replaying import Change, Replay, Tally
from regate_gateway.workbench.replay.replaying import replay as run_replay
from regate_gateway.workbench.replay.table import aligned
from regate_orchestrator.errors import PolicyUnavailable

_COLUMNS: Final = (
    "point",
    "rule",
    "action",
    "asked",
    "would deny",
    "would allow",
    "value differs",
    "filter differs",
    "errors",
)


@click.command()
@click.option(
    "--bundle",
    "candidate",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="The candidate: a policy directory, or a bundle (.tar.gz).",
)
@click.option(
    "--audit",
    "audit",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="What was decided: the audit directory, or a file of its JSON lines.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Ask only the first N records that hold decisions.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@html_option
def replay(candidate: Path, audit: Path, limit: int | None, *, as_json: bool, html: Path | None) -> None:
    """Ask every recorded decision, value, batch and filter again of a candidate policy, and show what would
    change.

    The candidate runs in an OPA of its own; nothing is written, and the gateway is not touched. Exit code 0
    when nothing would change, 1 when something would (an answer that the candidate cannot give included), 2
    for wrong usage or policies that do not run.

    \b
    Example: regate policy replay --bundle ./rego-new --audit ./data/audit
    """
    from regate_orchestrator.errors import ConfigurationError

    try:
        found = asyncio.run(_replay(candidate, audit, limit))
        if html is not None:
            write_page(html, as_page(found))
    except OSError as error:
        click.echo(f"regate: {audit}: the audit records cannot be read: {error.strerror}", err=True)
        sys.exit(2)
    except (ConfigurationError, PolicyUnavailable) as error:
        click.echo(
            f"regate: {error.message if isinstance(error, ConfigurationError) else error.detail}", err=True
        )
        sys.exit(2)
    if as_json:
        import orjson

        click.echo(orjson.dumps(as_document(found), option=orjson.OPT_INDENT_2).decode())
    else:
        click.echo("\n".join(_lines(found)))
    sys.exit(1 if found.changes else 0)


async def _replay(candidate: Path, audit: Path, limit: int | None) -> Replay:
    total = lines_in(audit)
    async with running_policies(candidate) as policies:
        with click.progressbar(length=total, label="Replaying", file=sys.stderr) as bar:
            return await run_replay(
                read_records(audit), BatchingEngine(policies.engine), limit=limit, advance=bar.update
            )


def as_page(found: Replay) -> str:
    """Return the replay as a page of its own."""
    tallies = _in_order(found)
    examples = [
        (
            change.id,
            change.outcome,
            change.origin.asker,
            f"{change.rule} {change.action} {change.about}",
            "; ".join(change.reasons),
        )
        for tally in tallies
        for change in tally.examples
    ]
    sections = [
        Section("Rules", Table(_COLUMNS, [_row(tally) for tally in tallies])),
        Section("Examples", Table(("decision", "outcome", "principal", "asked", "reasons"), examples)),
    ]
    return page(
        "Replay of recorded decisions",
        (f"{found.records} records, candidate revision {found.revision}", _verdict(found)),
        sections,
    )


def _verdict(found: Replay) -> str:
    return f"{found.changes} answers would change." if found.changes else "Nothing would change."


def as_document(found: Replay) -> dict[str, Any]:
    """Return the replay as JSON."""
    return {
        "candidate": found.revision,
        "records": found.records,
        "unreadable": found.unreadable,
        "changes": found.changes,
        "rules": [
            {
                "point": tally.point,
                "rule": tally.rule,
                "action": tally.action,
                "asked": tally.asked,
                "same": tally.count("same"),
                "would_deny": tally.count("would_deny"),
                "would_allow": tally.count("would_allow"),
                "value_differs": tally.count("value_differs"),
                "filter_differs": tally.count("filter_differs"),
                "errors": tally.count("error"),
                "examples": [_example(change) for change in tally.examples],
            }
            for tally in _in_order(found)
        ],
    }


def _example(change: Change) -> dict[str, Any]:
    return {
        "outcome": change.outcome,
        "id": change.id,
        "about": change.about,
        "reasons": list(change.reasons),
        **asdict(change.origin),
    }


def _in_order(found: Replay) -> list[Tally]:
    return [tally for _, tally in sorted(found.tallies.items())]


def _lines(found: Replay) -> Iterator[str]:
    yield f"{found.records} records, candidate revision {found.revision}"
    if found.unreadable:
        yield f"{found.unreadable} entries could not be read and were left out"
    rows = [_row(tally) for tally in _in_order(found)]
    if rows:
        yield ""
        yield from aligned([_COLUMNS, *rows])
    examples = [change for tally in _in_order(found) for change in tally.examples]
    if examples:
        yield ""
        yield "Examples (record, principal, about: reasons; of what would be allowed, the reasons of then)"
    for change in examples:
        yield (
            f"  {change.outcome:<14} {change.id}  {change.origin.asker}  {change.rule} {change.action} "
            f"{change.about}: " + "; ".join(change.reasons)
        )
    yield ""
    yield _verdict(found)
    yield "Identity and stamps were not asked again: records hold neither claims nor stamps."


def _row(tally: Tally) -> tuple[str, ...]:
    counts = (
        tally.asked,
        *(
            tally.count(outcome)
            for outcome in ("would_deny", "would_allow", "value_differs", "filter_differs", "error")
        ),
    )
    return (tally.point, tally.rule, tally.action, *map(str, counts))
