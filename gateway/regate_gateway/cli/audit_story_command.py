"""`regate audit show`: one story for a person. What a story is, `telemetry/audit_story.py` says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from regate_gateway.cli.audit_checks import each_log
from regate_gateway.cli.options import config_option, data_dir_option, overrides
from regate_gateway.cli.texts import plain
from regate_gateway.telemetry.audit_records import Record
from regate_gateway.telemetry.audit_story import Request, Step, Story, Told, story_of
from regate_orchestrator.errors import ConfigurationError

_MOST_NAMED: Final = 20
_GROUPS: Final = ("teams", "roles", "projects", "namespaces", "scopes")


@click.command()
@click.argument("about", metavar="ID")
@click.option(
    "--log",
    "logs",
    multiple=True,
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Directory to read (repeatable), such as those of several gateways.  [default: audit.path]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the story as one JSON object.")
@config_option
@data_dir_option
def show(
    config: Path | None, data_dir: Path | None, about: str, logs: tuple[Path, ...], *, as_json: bool
) -> None:
    """Tell the story of one answer (resp_…) or request (req_…): who asked, what was decided by which rule and
    why, what the answer was made of, and what was withheld.

    Exit code 1 when there is no record of it.

    \b
    Example: regate audit show resp_…
    """
    from regate_gateway.config.loading import load_settings

    if not about.startswith(("resp_", "req_")):
        raise click.UsageError(f"{about} is neither a response (resp_…) nor a request (req_…)")
    places = each_log(logs or (load_settings(config, overrides=overrides(data_dir=data_dir)).audit.path,))
    records = _records(places, about)
    if not records:
        raise ConfigurationError(f"there is no record of {about} in {', '.join(map(str, places))}")
    story = story_of(about, records)
    click.echo(_as_json(story) if as_json else "\n".join(map(plain, _lines(story))))


def _records(places: tuple[Path, ...], about: str) -> list[Record]:
    """Return the records of the response or request, oldest first; with those of the request that made the
    response which do not name it.
    """
    name = "response_id" if about.startswith("resp_") else "request_id"
    records = _mentioning(places, about, name)
    if records and name == "response_id" and (request := records[0].get("request_id")):
        before = [
            record
            for record in _mentioning(places, str(request), "request_id")
            if not record.get("response_id")
        ]
        records = sorted([*before, *records], key=lambda record: str(record.get("at", "")))
    return records


def _mentioning(places: tuple[Path, ...], identifier: str, name: str) -> list[Record]:
    from regate_adapters.audit.reading import AuditLogReader

    found = [
        record
        for place in places
        for record in AuditLogReader(place, mentioning=identifier).more()
        if record.get(name) == identifier
    ]
    return sorted(found, key=lambda record: str(record.get("at", "")))  # stable: within a log the order stays


def _as_json(story: Story) -> str:
    import orjson

    return orjson.dumps(asdict(story), option=orjson.OPT_INDENT_2).decode()


def _lines(story: Story) -> Iterator[str]:
    making, *later = story.requests
    yield story.about
    yield from _request(making, "asked")
    for request in later:
        yield ""
        yield from _request(request, "later, asked")
    yield ""
    yield "Made of"
    made = story.made_of
    for label, names in (
        ("model", made.models),
        ("store", made.stores),
        ("file", [f"{file}: {count} chunks" if count else file for file, count in made.files.items()]),
        ("chunk", made.chunks),
        ("tool", [f"{tool}: called {count} times" for tool, count in made.tools.items()]),
        ("server", made.servers),
        ("sent to", made.destinations),
    ):
        for name in names[:_MOST_NAMED]:
            yield f"  {label:<9}{name}"
        if len(names) > _MOST_NAMED:
            yield f"  {label:<9}… and {len(names) - _MOST_NAMED} more (--json shows all)"
    yield "Withheld" if story.withheld else "Withheld: nothing"
    for one in story.withheld:
        yield f"  {one.seq:>6}  {one.what}{': ' + ', '.join(one.reasons) if one.reasons else ''}"


def _request(request: Request, verb: str) -> Iterator[str]:
    groups = [
        f"{name}: {', '.join(map(str, some))}" for name in _GROUPS if (some := request.principal.get(name))
    ]
    who = f"{request.subject}@{request.tenant}" + (f" ({'; '.join(groups)})" if groups else "")
    yield f"{verb:<9}{who}"
    if by := request.authentication:
        credential = f", credential {by['credential']}" if "credential" in by else ""
        yield f"by       {by.get('provider')} ({by.get('kind')}){credential}"
    yield f"when     {request.steps[0].at}, {request.request_id}"
    yield f"policy   revision {', '.join(request.revisions) or 'unknown'}"
    yield ""
    for step in request.steps:
        yield from _step(step, is_mixed=len(request.revisions) > 1)


def _step(step: Step, *, is_mixed: bool) -> Iterator[str]:
    counts = [f"{kind} {admitted} of {asked}" for kind, (admitted, asked) in step.counts.items()]
    notes = [f"{name} {_short(value)}" for name, value in step.notes.items() if not _is_list(value)]
    notes += [f"{len(value)} {name}" for name, value in step.notes.items() if _is_list(value)]
    kind = [] if step.kind == "decisions" or step.kind == step.phase else [step.kind]
    revision = [f"revision {step.revision}"] if is_mixed and step.revision else []
    yield "  ".join([f"{step.seq:>6}", step.at[11:23], step.phase, *kind, *counts, *notes, *revision])
    for told in step.decisions:
        yield f"{'':>22}{_told(told)}"


def _told(told: Told) -> str:
    said = "; ".join(f"{name} {_short(value)}" for name, value in told.said.items())
    if told.allowed is None:
        return f"{told.rule}: {said or 'undefined'}"
    verdict = "allow" if told.allowed else "DENY"
    reasons = f": {', '.join(told.reasons)}" if told.reasons else ""
    return f"{verdict}{reasons}  {told.action} {told.about}  {told.rule}  {told.id}" + (
        f"  {said}" if said else ""
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 3


def _short(value: Any) -> str:
    """Return a value as a person reads it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_short(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_short, value)) + "]"
    return str(value)
