"""The command `regate policy check`: its options, once or again after each change. What is checked is
in `checks.py`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from regate_gateway.workbench.options import config_option, html_option, overlay_option, policy_option

_SLOW_SECONDS: Final = 1.0


@click.command()
@policy_option
@overlay_option
@click.option(
    "--tests",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with the policies' tests.  [default: found beside them]",
)
@click.option(
    "--samples",
    "samples_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON list of further principals to compile for.",
)
@click.option(
    "--store",
    "stores",
    multiple=True,
    metavar="KIND",
    help="A kind of store that must apply every filter exactly (repeatable).  [default: the configured ones]",
)
@click.option(
    "--only",
    multiple=True,
    metavar="CHECK[,CHECK]",
    help="Make these checks alone, and those that they need.  [default: all]",
)
@click.option(
    "--quick/--full",
    "quick",
    default=True,
    show_default=True,
    help="How many rows to compare filter and decision on.",
)
@click.option(
    "--watch",
    is_flag=True,
    help="Check again whenever a file changes, until Ctrl-C; then only what changed is printed.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@html_option
@config_option
def check(
    samples_file: Path | None,
    stores: tuple[str, ...],
    only: tuple[str, ...],
    *,
    watch: bool,
    as_json: bool,
    html: Path | None,
    **options: Any,
) -> None:
    """Check policies before they serve: form, types, tests, the contract with the gateway, and that filters
    and decisions agree.

    The rules that become filters are compiled for sample principals, tried in each kind of store, and
    compared with OPA's full evaluation on rows made from their own constants.

    \b
    Exit code 0 when nothing was found, 1 with findings, 2 for wrong usage.
    Example: regate policy check --policy rego --tests policy-tests
             regate policy check --overlay overlay --watch --only authoring,stores
    """
    from regate_gateway.workbench.check.renderers import KINDS
    from regate_gateway.workbench.check.report import as_document, as_page, as_text
    from regate_gateway.workbench.check.samples import read_samples
    from regate_gateway.workbench.check.watch import Checking, watch_policies
    from regate_gateway.workbench.page import write_page

    if unknown := set(stores) - KINDS:
        raise click.UsageError(f"--store {min(unknown)}: is none of {', '.join(sorted(KINDS))}")
    if watch and as_json:
        raise click.UsageError("--watch prints for people: leave --json out, or check once")
    checking = Checking(
        directory=options["directory"],
        overlay=options["overlay"],
        tests=options["tests"],
        config=options["config"],
        samples=() if samples_file is None else read_samples(samples_file),
        stores=frozenset(stores),
        only=_chosen(only),
        quick=options["quick"],
    )
    if watch:
        watch_policies(checking, html)
        return
    report = checking.check(_Progress().begins, lambda _: None)
    if html is not None:
        write_page(html, as_page(report))
    if as_json:
        import orjson

        click.echo(orjson.dumps(as_document(report), option=orjson.OPT_INDENT_2).decode())
    else:
        click.echo(as_text(report))
    if not report.ok:
        sys.exit(1)


def _chosen(only: Sequence[str]) -> frozenset[str]:
    """Return the checks that are named; all of them where none is. Raises `click.UsageError` for one
    that is not there.
    """
    from regate_gateway.workbench.check.checks import CHECKS
    from regate_orchestrator.spelling import nearest

    names = [name.strip() for given in only for name in given.split(",")]
    for name in names:
        if name not in CHECKS:
            near = nearest(name, CHECKS)
            meant = "" if near is None else f"did you mean {near!r}? "
            raise click.UsageError(
                f"--only: there is no check {name!r}; {meant}there are {', '.join(CHECKS)}"
            )
    return frozenset(names or CHECKS)


class _Progress:
    """Tells of checks that begin after the first second."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def begins(self, name: str) -> None:
        """Tell of the check if the checks are slow so far."""
        if time.monotonic() - self._began > _SLOW_SECONDS:
            click.echo(f"regate: checking {name} …", err=True)
