"""`regate usage`: what was used, by tenant, person and model, out of the state store, as CSV or JSON."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from regate_gateway.cli.options import config_option, data_dir_option, overrides

if TYPE_CHECKING:
    from regate_gateway.config.settings import Settings
    from regate_orchestrator.ports import UsageKey, UsageRow

_DAY_SECONDS: Final = 86_400
_MILLION: Final = 1_000_000
_KEYS: Final[tuple[UsageKey, ...]] = ("tenant", "principal", "model")
_DAY = click.DateTime(formats=["%Y-%m-%d"])


@click.command()
@click.option("--from", "first", type=_DAY, help="First day, in UTC.  [default: the first of this month]")
@click.option("--to", "last", type=_DAY, help="Last day, in UTC, included.  [default: today]")
@click.option(
    "--by",
    "keys",
    type=click.Choice(_KEYS),
    multiple=True,
    help="What it is added up for (repeatable); a principal is shown with its tenant.  [default: tenant]",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "json"]),
    default="csv",
    show_default=True,
    help="How to print.",
)
@config_option
@data_dir_option
def usage(
    config: Path | None,
    data_dir: Path | None,
    *,
    first: datetime | None,
    last: datetime | None,
    keys: tuple[UsageKey, ...],
    kind: str,
) -> None:
    """Print what was used: requests, tokens of input and output, and what they cost by the policy's prices.

    It is read from the state store, where gateways write every ten seconds. Requests that no model answered
    have no model.

    \b
    Whom to bill for November?   regate usage --from 2026-11-01 --to 2026-11-30 --by tenant --by model
    """
    from regate_gateway.config.loading import load_settings

    settings = load_settings(config, overrides=overrides(data_dir=data_dir))
    today = datetime.now(UTC)
    began, ended = first or today.replace(day=1), last or today
    if _day(ended) < _day(began):
        raise click.UsageError("--to is before --from")
    by = [key for key in _KEYS if key in (keys or ("tenant",)) or (key == "tenant" and "principal" in keys)]
    rows = asyncio.run(_report(settings, _day(began), _day(ended), by))
    shown = [_shown(row, by) for row in rows]
    click.echo(_as_csv(shown, by) if kind == "csv" else _as_json(shown), nl=False)


async def _report(settings: Settings, first: int, last: int, by: Sequence[UsageKey]) -> list[UsageRow]:
    from regate_adapters.state.store import SqlStateStore
    from regate_gateway.config.state_settings import state_url

    setting, url = state_url(settings.state)
    async with SqlStateStore.open(url, setting=setting) as state:
        return await state.usage.report(first=first, last=last, by=by)


def _day(moment: datetime) -> int:
    return int(moment.replace(tzinfo=UTC).timestamp()) // _DAY_SECONDS


def _shown(row: UsageRow, by: Sequence[UsageKey]) -> dict[str, Any]:
    return {
        **{key: getattr(row, key) for key in by},
        "requests": row.requests,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "cost": row.cost / _MILLION,
    }


def _as_csv(rows: Sequence[dict[str, Any]], by: Sequence[UsageKey]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(
        text, [*by, "requests", "input_tokens", "output_tokens", "cost"], lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _as_json(rows: Sequence[dict[str, Any]]) -> str:
    import orjson

    return orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode() + "\n"
