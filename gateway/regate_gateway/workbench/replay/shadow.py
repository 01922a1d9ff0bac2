"""The command `regate policy shadow`: reads what a shadowed candidate would have changed on live traffic.

Not the shadowing itself; that is `regate_adapters.opa.shadowing`, which writes the report read here. Recorded
traffic: `replaying.py`.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from regate_gateway.workbench.options import html_option
from regate_gateway.workbench.page import Section, Table, page, write_page
from regate_gateway.workbench.replay.recorded import principal_names
from regate_gateway.workbench.replay.table import aligned
from regate_orchestrator.errors import ConfigurationError

_MAX_SHOWN: Final = 10
_FLIPS: Final = ("would_deny", "would_allow", "differs")
_OUTCOMES: Final = ("same", *_FLIPS, "error", "dropped")


@dataclass(slots=True)
class ShadowReport:
    """What a report file holds, added up."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By rule and outcome, over all runs of the gateway."""
    principals: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Flips by principal digest and outcome."""
    latest: list[dict[str, Any]] = field(default_factory=list)
    """The last few flips, oldest first."""
    names: dict[str, str] = field(default_factory=dict)
    """Tenant and id of principals by digest, as far as they are known."""
    unreadable: int = 0

    @property
    def flips(self) -> int:
        """Return how many answers were different."""
        return sum(count for (_, outcome), count in self.counts.items() if outcome in _FLIPS)


def read_report(lines: Iterable[bytes]) -> ShadowReport:
    """Return what the lines of a report come to. A line that is no report line is counted and left out."""
    report = ShadowReport()
    written: Counter[tuple[str, str]] = Counter()
    runs: dict[str, Counter[tuple[str, str]]] = {}
    for line in lines:
        try:
            record = json.loads(line)
            if record["kind"] == "summary":
                # A run's counts only grow, so its last summary holds them all.
                runs[str(record["since"])] = Counter(
                    {(str(one["rule"]), str(one["outcome"])): int(one["count"]) for one in record["counts"]}
                )
                continue
            written[str(record["rule"]), str(record["outcome"])] += 1
            report.principals[str(record["principal"] or "-"), str(record["outcome"])] += 1
            report.latest = [*report.latest[1 - _MAX_SHOWN :], record]
        except (ValueError, KeyError, TypeError):
            report.unreadable += 1
    for counts in runs.values():
        report.counts.update(counts)
    # Flips since the last summary are in their own lines only; flips past the report's end in summaries only.
    report.counts |= written
    return report


@click.command()
@click.option(
    "--report",
    "place",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The report to read.  [default: <data_dir>/shadow/flips.jsonl]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--audit",
    type=click.Path(exists=True, path_type=Path),
    help=(
        "Audit directory, or a file of its JSON lines, to find names of principals in.  [default: audit.path]"
    ),
)
@html_option
@click.option(
    "--config",
    "config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="REGATE_CONFIG",
    help="Configuration file.  [default: regate.yaml in this directory, if there is one]",
)
def shadow(
    place: Path | None, config: Path | None, *, as_json: bool, audit: Path | None, html: Path | None
) -> None:
    """Show what a candidate policy would have changed, had it been live.

    Set opa.shadow to the candidate's directory: the gateway then asks it everything that it asks the live
    policy, off the hot path, and writes every difference to the report. Exit code 0 when there is none, 1
    when there are some, 2 when there is no report.
    """
    try:
        report = _read(place, config)
        report.names = _names(report, audit, config)
        if html is not None:
            write_page(html, as_page(report))
    except (OSError, ConfigurationError) as error:
        words = (
            error.message
            if isinstance(error, ConfigurationError)
            else "there is no report yet: is opa.shadow set?"
        )
        click.echo(f"regate: {words}", err=True)
        sys.exit(2)
    if as_json:
        import orjson

        click.echo(orjson.dumps(as_document(report), option=orjson.OPT_INDENT_2).decode())
    else:
        click.echo("\n".join(_lines(report)))
    sys.exit(1 if report.flips else 0)


def _read(place: Path | None, config: Path | None) -> ShadowReport:
    if place is None:
        from regate_gateway.config.loading import load_settings

        place = load_settings(config).data_dir / "shadow" / "flips.jsonl"
    with place.open("rb") as file:
        return read_report(file)


def _names(report: ShadowReport, audit: Path | None, config: Path | None) -> dict[str, str]:
    """Return the names of the principals that are shown, as far as audit records tell them."""
    if audit is None:
        from regate_gateway.config.loading import load_settings

        audit = load_settings(config).audit.path
    shown = [principal for (principal, _), _ in report.principals.most_common(_MAX_SHOWN)]
    return principal_names(audit, dict.fromkeys(shown)) if audit.exists() else {}


def as_page(report: ShadowReport) -> str:
    """Return the report as a page of its own."""
    document = as_document(report)
    rules = [(rule["rule"], *(str(rule[name]) for name in _OUTCOMES)) for rule in document["rules"]]
    principals = [
        (one["principal"], one["name"] or "", one["outcome"], str(one["count"]))
        for one in document["principals"]
    ]
    latest = [
        (
            str(flip.get("at")),
            flip["outcome"],
            flip["rule"],
            str(flip.get("about") or ""),
            "; ".join(flip.get("reasons", ())),
        )
        for flip in report.latest
    ]
    sections = [
        Section("Rules", Table(("rule", *_OUTCOMES), rules)),
        Section("Principals", Table(("principal", "name", "outcome", "count"), principals)),
        Section("Latest flips", Table(("at", "outcome", "rule", "about", "reasons"), latest)),
    ]
    return page("Shadowed policy", (_verdict(report),), sections)


def _verdict(report: ShadowReport) -> str:
    return (
        f"{report.flips} answers would have been different."
        if report.flips
        else "No answer would have been different."
    )


def as_document(report: ShadowReport) -> dict[str, Any]:
    """Return the report as JSON."""
    rules = sorted({rule for rule, _ in report.counts})
    return {
        "flips": report.flips,
        "unreadable": report.unreadable,
        "rules": [
            {"rule": rule, **{outcome: report.counts[rule, outcome] for outcome in _OUTCOMES}}
            for rule in rules
        ],
        "principals": [
            {"principal": principal, "name": report.names.get(principal), "outcome": outcome, "count": count}
            for (principal, outcome), count in report.principals.most_common()
        ],
        "latest": report.latest,
    }


def _lines(report: ShadowReport) -> Iterator[str]:
    document = as_document(report)
    if document["rules"]:
        yield from aligned(
            [
                ("rule", *_OUTCOMES),
                *((rule["rule"], *(str(rule[name]) for name in _OUTCOMES)) for rule in document["rules"]),
            ]
        )
        yield ""
    if document["principals"]:
        yield "Principals with most flips (by digest, with the names that audit records tell)"
        for one in document["principals"][:_MAX_SHOWN]:
            yield f"  {one['principal']}  {one['name'] or '-'}  {one['outcome']}  {one['count']}"
        yield ""
        yield "Latest flips"
        for flip in report.latest:
            yield (
                f"  {flip.get('at')}  {flip['outcome']:<11}  {flip['rule']}  {flip.get('about') or '-'}  "
                + "; ".join(flip.get("reasons", ()))
            )
        yield ""
    yield _verdict(report)
