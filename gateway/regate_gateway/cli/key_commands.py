"""The `regate key` group: makes, lists and revokes API keys in the state database, which the settings name.

It needs no running gateway, and no token: whoever may write to the database may make keys. Exit codes are
those of `regate`.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from regate_gateway.cli.options import config_option, data_dir_option, overrides
from regate_gateway.cli.texts import plain

if TYPE_CHECKING:
    from regate_gateway.config.settings import Settings
    from regate_orchestrator.ports import ApiKeyState
    from regate_orchestrator.rows import ApiKeyRow
    from regate_orchestrator.values import Json, JsonObject

Result = TypeVar("Result")

_UNITS: Final = {"m": 60, "h": 3_600, "d": 86_400}
_MAX_SECONDS: Final = 3_650 * 86_400
_CLAIMS: Final = ("teams", "roles", "projects", "namespaces")


class Lifetime(click.ParamType):  # type: ignore[type-arg] # generic in click's stubs alone
    """How long a key is valid: `90d`, `12h`, `30m`; or `never` for one that does not expire."""

    name = "lifetime"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the seconds; 0 stands for no end."""
        if value == "never":
            return 0
        found = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", str(value))
        seconds = int(found.group(1)) * _UNITS[found.group(2)] if found is not None else 0
        if not 0 < seconds <= _MAX_SECONDS:
            self.fail(f"{value!r} is none: write 30m, 12h, 90d (ten years at most), or never", param, ctx)
        return seconds


class Plain(click.ParamType):  # type: ignore[type-arg] # generic in click's stubs alone
    """A name as the policies take it."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name."""
        from regate_orchestrator.principal import is_name

        if not is_name(value):
            self.fail(f"{value!r} is no name: 1 to 128 plain characters, without blanks", param, ctx)
        return value


_json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@click.group()
def key() -> None:
    """Make, list and revoke API keys. A key stands for one subject of one tenant, with what it is given here.

    Keys are kept in the state database of the configuration, as digests. The gateways that share it accept
    them once auth.providers has an entry of kind api_key.
    """


@key.command()
@click.option("--tenant", required=True, type=Plain(), metavar="NAME", help="The tenant it is for.")
@click.option("--subject", required=True, type=Plain(), metavar="NAME", help="Who asks with it.")
@click.option("--scope", "scopes", multiple=True, type=Plain(), metavar="NAME", help="A scope (repeatable).")
@click.option("--team", "teams", multiple=True, type=Plain(), metavar="NAME", help="A team (repeatable).")
@click.option("--role", "roles", multiple=True, type=Plain(), metavar="NAME", help="A role (repeatable).")
@click.option(
    "--project", "projects", multiple=True, type=Plain(), metavar="NAME", help="A project (repeatable)."
)
@click.option(
    "--namespace", "namespaces", multiple=True, type=Plain(), metavar="NAME", help="A namespace (repeatable)."
)
@click.option(
    "--clearance",
    type=click.IntRange(0, 2**53),
    default=0,
    show_default=True,
    help="Highest level it may read.",
)
@click.option(
    "--expires", "lifetime", type=Lifetime(), default="90d", show_default=True,
    help="How long it is valid: 30m, 12h, 90d, or never.",
)  # fmt: skip
@click.option("--name", default="", metavar="TEXT", help="What it is for, for whoever lists the keys.")
@_json_option
@config_option
@data_dir_option
def create(
    config: Path | None, data_dir: Path | None, *, lifetime: int, name: str, as_json: bool, **given: Any
) -> None:
    """Make a key, and print it: this once, and never again.

    \b
    Example: regate key create --tenant acme --subject nightly --scope read --expires 90d --name "nightly run"
    """
    from regate_adapters.identity.api_keys import make_key

    settings = _settings(config, data_dir)
    now = int(time.time())
    made = make_key(_claims(**given), name=name, now=now, expires_at=now + lifetime if lifetime else None)
    _with_keys(settings, lambda keys: keys.add(made.row))
    if not any(entry.kind == "api_key" for entry in settings.auth.entries):
        click.echo("regate: no gateway of this configuration accepts it yet: auth.providers has no entry of "
                   "kind api_key", err=True)  # fmt: skip
    if as_json:
        _print_json({"key": made.key, **_shown(made.row)})
        return
    click.echo(f"regate: {_line(made.row, now)}", err=True)
    click.echo(made.key)


@key.command(name="list")
@click.option("--tenant", metavar="NAME", help="Only the keys of this tenant.")
@_json_option
@config_option
@data_dir_option
def list_keys(config: Path | None, data_dir: Path | None, *, tenant: str | None, as_json: bool) -> None:
    """List the keys, the newest first, with what each stands for and until when it is valid."""
    rows = _with_keys(_settings(config, data_dir), lambda keys: keys.all(tenant=tenant))
    if as_json:
        _print_json([_shown(row) for row in rows])
        return
    now = int(time.time())
    for row in rows:
        click.echo(_line(row, now))


@key.command()
@click.argument("key_id", metavar="ID")
@_json_option
@config_option
@data_dir_option
def revoke(config: Path | None, data_dir: Path | None, *, key_id: str, as_json: bool) -> None:
    """Revoke the key with this ID (rgk_ and 12 characters), for good. All gateways refuse it once what they
    remember of it is out of date: cache_s of the provider, 2 seconds unless it is set.
    """
    from regate_adapters.identity.api_keys import id_in

    now, identifier = int(time.time()), id_in(key_id) or key_id
    row = _with_keys(_settings(config, data_dir), lambda keys: keys.revoke(identifier, at=now))
    if row is None:
        _fail("there is no such key")
    if as_json:
        _print_json(_shown(row))
    else:
        click.echo(_line(row, now))


def _settings(config: Path | None, data_dir: Path | None) -> Settings:
    from regate_gateway.config.loading import load_settings

    return load_settings(config, overrides=overrides(data_dir=data_dir))


def _with_keys(settings: Settings, do: Callable[[ApiKeyState], Awaitable[Result]]) -> Result:
    """Return what is done with the keys of the database. Ends the command when it does not answer."""
    import asyncio

    from regate_adapters.state.store import SqlStateStore
    from regate_gateway.config.state_settings import state_url
    from regate_orchestrator.errors import StateUnavailable

    async def done() -> Result:
        setting, url = state_url(settings.state)
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # keys may be made before a start
        async with SqlStateStore.open(url, setting=setting) as state:
            return await do(state.api_keys)

    try:
        return asyncio.run(done())
    except StateUnavailable as error:
        _fail(f"the state database does not answer: {error.detail}")


def _fail(why: str) -> NoReturn:
    click.echo(f"regate: {why}", err=True)
    sys.exit(1)


def _claims(
    *, tenant: str, subject: str, scopes: Sequence[str], clearance: int, **lists: Sequence[str]
) -> JsonObject:
    """Return the claims, without those that say nothing."""
    claims: dict[str, Json] = {"sub": subject, "tenant": tenant}
    claims |= {name: list(lists[name]) for name in _CLAIMS if lists[name]}
    if scopes:
        claims["scope"] = " ".join(scopes)
    return claims | ({"clearance": clearance} if clearance else {})


def _shown(row: ApiKeyRow) -> JsonObject:
    return {
        "id": row.id,
        "name": row.name,
        "claims": dict(row.claims),
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
    }


def _line(row: ApiKeyRow, now: int) -> str:
    who = f"{row.claims['sub']}@{row.claims['tenant']}"
    further = "; ".join(
        f"{name}: {', '.join(value) if isinstance(value, list) else value}"
        for name, value in row.claims.items()
        if name not in {"sub", "tenant"}
    )
    parts = (row.id, _standing(row, now), who, further and f"({further})", row.name)
    return "  ".join(plain(part) for part in parts if part)


def _standing(row: ApiKeyRow, now: int) -> str:
    if row.revoked_at is not None:
        return f"revoked {_day(row.revoked_at)}"
    if row.expires_at is None:
        return "does not expire"
    return f"{'expired' if row.expires_at <= now else 'expires'} {_day(row.expires_at)}"


def _day(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%MZ")


def _print_json(value: object) -> None:
    import orjson

    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
