"""`regate eval`: measures a running gateway, over its API and with a token of each tenant. What is measured
and how is `regate_gateway.evaluation`.

Exit codes: 0 measured and good, 1 a leak, a regression, or refused with the reason on standard error, 2 wrong
usage.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from regate_gateway.evaluation.figures import Report
    from regate_gateway.evaluation.questions import Question
    from regate_gateway.evaluation.run import Measurement
    from regate_gateway.evaluation.target import Target

_MODES: Final = ("vector", "keyword", "hybrid")
_CANARIES: Final = 20
_QUIET_SECONDS: Final = 2.0
_FILE = click.Path(dir_okay=False, exists=True, path_type=Path)


class TenantToken(click.ParamType):  # type: ignore[type-arg] # generic in click's stubs alone
    """A tenant, and the environment variable that holds a token of its member: `acme=ACME_TOKEN`."""

    name = "tenant"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return both."""
        tenant, equals, variable = value.partition("=")
        if not (tenant and equals and variable):
            self.fail(f"{value!r}: write TENANT=VARIABLE, where the variable holds a token", param, ctx)
        return tenant, variable


@click.command("eval")
@click.argument("deployment", type=_FILE, required=False)
@click.option("--url", envvar="REGATE_URL", metavar="URL", help="The gateway, up to and including /v1.")
@click.option(
    "--tenant",
    "tokens",
    type=TenantToken(),
    multiple=True,
    metavar="NAME=VARIABLE",
    help="A tenant, with the environment variable that holds a token of its member (repeatable).",
)
@click.option("--store", metavar="ID", help="The vector store that questions are asked of.")
@click.option("--questions", "questions_file", type=_FILE, help="Questions, a line of JSON each.")
@click.option(
    "--mode",
    "modes",
    type=click.Choice(_MODES),
    multiple=True,
    help="How to search (repeatable).  [default: as the deployment does]",
)
@click.option(
    "--canaries",
    type=click.IntRange(0, 20_000),
    help=f"Files to make for each tenant, and to remove.  [default: {_CANARIES}; with --questions 0]",
)
@click.option(
    "--changes",
    type=click.IntRange(1, 1_000),
    default=3,
    show_default=True,
    help="Canaries of each tenant that are taken back.",
)
@click.option(
    "--give-up",
    "give_up_s",
    type=click.FloatRange(0.1, 3_600),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long what was taken back may be found.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write report.md, report.json and report.html into this directory.",
)
@click.option("--baseline", type=_FILE, help="An earlier report.json: exit with 1 when anything is worse.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1),
    default=0.02,
    show_default=True,
    help="How much lower a figure of quality may be.",
)
@click.option(
    "--max-slowdown",
    "slowdown",
    type=click.FloatRange(1),
    metavar="FACTOR",
    help="How many times as long the p95 of searches may take.  [default: any]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON in place of Markdown.")
def evaluate(
    deployment: Path | None,
    url: str | None,
    tokens: Sequence[tuple[str, str]],
    store: str | None,
    questions_file: Path | None,
    modes: Sequence[str],
    canaries: int | None,
    changes: int,
    give_up_s: float,
    out: Path | None,
    baseline: Path | None,
    tolerance: float,
    slowdown: float | None,
    *,
    as_json: bool,
) -> None:
    """Measure a running gateway: how well it finds, whether anything leaks between tenants, what it costs.

    DEPLOYMENT is YAML or JSON with url, store and tenants, each with token_env or token_file. Without
    --questions, files with phrases of their own are made for each tenant, asked for and removed.

    \b
    Example: regate eval --tenant acme=ACME_TOKEN --tenant globex=GLOBEX_TOKEN --out report
    """
    from regate_gateway.evaluation.baseline import read_baseline, regressions
    from regate_gateway.evaluation.member import Refused
    from regate_gateway.evaluation.run import Measurement
    from regate_gateway.evaluation.target import read_target
    from regate_orchestrator.errors import ConfigurationError

    try:
        target = read_target(deployment, url=url, store=store, tokens=tokens)
        questions = [] if questions_file is None else _questions(questions_file, target)
        earlier = None if baseline is None else read_baseline(baseline)
        count = canaries if canaries is not None else 0 if questions else _CANARIES
        if not questions and not count:
            raise click.UsageError("There is nothing to ask: give --questions, or more --canaries than 0.")
        origin = "the canaries' phrases" if questions_file is None else questions_file.name
        wanted = Measurement(
            target, questions, origin, tuple(dict.fromkeys(modes)) or ("default",), count, changes, give_up_s
        )
        for tenant, entry in target.tenants.items():
            entry.token(tenant)
        _make(out)
    except ConfigurationError as error:
        raise click.UsageError(error.message) from None
    try:
        report = asyncio.run(_interruptible(wanted))
    except (Refused, KeyboardInterrupt, asyncio.CancelledError) as ended:
        click.echo(f"regate: {str(ended) or 'interrupted'}", err=True)
        sys.exit(1)
    if earlier is not None:
        report.regressions = regressions(report, earlier, tolerance=tolerance, slowdown=slowdown)
    _show(report, out, as_json=as_json)
    sys.exit(0 if report.is_good else 1)


def _make(out: Path | None) -> None:
    """Make the directory of the report, before anything is measured for it. Raises `UsageError`."""
    if out is None:
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"--out: {out} cannot be made: {error.strerror}") from None
    if not os.access(out, os.W_OK | os.X_OK):
        raise click.UsageError(f"--out: {out} cannot be written to.")


def _questions(file: Path, target: Target) -> Sequence[Question]:
    from regate_gateway.evaluation.questions import read_questions

    stores = {tenant: target.store_of(tenant) for tenant in target.tenants}
    return read_questions(
        file, target.tenants, {tenant: store for tenant, store in stores.items() if store is not None}
    )


async def _interruptible(wanted: Measurement) -> Report:
    """Return the report. A signal that ends programs cancels it, so that what was made is removed."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 # whoever runs a coroutine is a task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await wanted.run(_Progress())


class _Progress:
    """Tells on standard error, every other second, how far it is."""

    def __init__(self) -> None:
        self._told = 0.0

    def __call__(self, text: str) -> None:
        now = time.monotonic()
        if now - self._told >= _QUIET_SECONDS:
            self._told = now
            click.echo(f"regate: {text}", err=True)


def _show(report: Report, out: Path | None, *, as_json: bool) -> None:
    import orjson

    from regate_gateway.evaluation.showing.markdown import markdown
    from regate_gateway.evaluation.showing.page import page

    document = orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    text = markdown(report)
    if out is not None:
        (out / "report.json").write_bytes(document)
        (out / "report.md").write_text(text, encoding="utf-8")
        (out / "report.html").write_text(page(report), encoding="utf-8")
    click.echo(document.decode() if as_json else text, nl=False)
