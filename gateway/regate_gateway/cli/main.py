"""The `regate` command. Each subcommand imports what it needs when it runs, so that `regate --help` is quick.

Exit codes: 0 done, 1 refused or failed (the reason is on standard error), 2 wrong usage. `python -m
regate_gateway` is the same command.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import click

from regate_gateway.cli.audit_command import audit
from regate_gateway.cli.eval_command import evaluate
from regate_gateway.cli.key_commands import key
from regate_gateway.cli.options import config_option, data_dir_option, overrides
from regate_gateway.cli.prompt_commands import prompt
from regate_gateway.cli.store_command import store
from regate_gateway.cli.usage_command import usage
from regate_gateway.workbench.commands import policy
from regate_orchestrator.errors import ConfigurationError


class Commands(click.Group):
    """A group whose commands report a refused configuration in one place: its message on standard
    error, exit code 1.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            click.echo(f"regate: {error.message}", err=True)
            ctx.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="regate", prog_name="regate")
def main() -> None:
    """A policy-as-code gateway for agentic RAG: an OpenAI-compatible reverse proxy in which OPA makes every
    decision.

    Settings come from regate.yaml, then from REGATE_... variables (nested as REGATE_LISTEN__PORT), then from
    options.
    """


@main.command()
@click.option("--sub", "subject", required=True, metavar="NAME", help="Who asks: the token's subject.")
@click.option("--tenant", required=True, metavar="NAME", help="The tenant the person belongs to.")
@click.option("--team", "teams", multiple=True, metavar="NAME", help="A team of the person (repeatable).")
@click.option("--role", "roles", multiple=True, metavar="NAME", help="A role, e.g. store_admin (repeatable).")
@click.option("--project", "projects", multiple=True, metavar="NAME", help="A project (repeatable).")
@click.option("--namespace", "namespaces", multiple=True, metavar="NAME", help="A namespace (repeatable).")
@click.option("--scope", "scopes", multiple=True, metavar="NAME", help="A scope (repeatable).")
@click.option(
    "--clearance",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Highest level the person may read.",
)
@click.option(
    "--ttl",
    "ttl_s",
    type=click.IntRange(60, 30 * 86_400),
    default=43_200,
    show_default=True,
    help="Seconds until it expires.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the token with its claims as JSON.")
@config_option
@data_dir_option
def token(config: Path | None, data_dir: Path | None, *, as_json: bool, **claims: Any) -> None:
    """Mint a token for development, signed with the gateway's shared secret.

    Works in development mode (no auth configured: the secret is made and kept in data_dir) and with an HS256
    secret. Where an identity provider signs tokens with its own key, it alone can issue them.

    \b
    Example: export OPENAI_API_KEY=$(regate token --sub alice --tenant acme --team hr)
    """
    import orjson

    from regate_adapters.identity.jwt import mint_development_token
    from regate_gateway.auth.authentication import development_secret, shared_secret, token_rules
    from regate_gateway.config.loading import load_settings

    settings = load_settings(config, overrides=overrides(data_dir=data_dir))
    rules = token_rules(settings)
    own = development_secret(settings)
    is_new = own is not None and not own.exists()
    secret = shared_secret(settings)
    if is_new:
        click.echo(
            (
                f"regate: there was no secret, so {own} was made; only a gateway with this data_dir takes "
                "the token"
            ),
            err=True,
        )
    if "HS256" not in rules.algorithms:
        raise ConfigurationError(
            "auth.jwt.algorithms: development tokens are signed with HS256, which is not among them"
        )
    minted = mint_development_token(
        secret.reveal().encode(), issuer=rules.issuer, audience=rules.audience, **claims
    )
    if as_json:
        shown = {"token": minted, "issuer": rules.issuer, "audience": rules.audience, **claims}
        click.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
    else:
        click.echo(minted)


main.add_command(policy)
main.add_command(prompt)
main.add_command(audit)
main.add_command(key)
main.add_command(usage)
main.add_command(evaluate)
main.add_command(store)


@main.group()
def config() -> None:
    """Check, show and explain the configuration."""


@config.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def check(config: Path | None, *, as_json: bool) -> None:
    """Check the configuration, with the keys, secrets, files and directories it names, without starting
    anything or connecting anywhere.

    Exit code 0 when the gateway would accept it, else 1 with one line per fault. Whether all that it names
    answers, regate doctor says.
    """
    import orjson

    from regate_gateway.composition.checking import require_startable
    from regate_gateway.config.loading import load_settings

    try:
        settings = load_settings(config)
        require_startable(settings)
    except ConfigurationError as error:
        if not as_json:
            raise
        click.echo(orjson.dumps({"ok": False, "faults": error.message.splitlines()}).decode())
        sys.exit(1)
    if as_json:
        click.echo(orjson.dumps({"ok": True, "faults": []}).decode())
        return
    click.echo("The configuration is accepted.")
    if settings.opa.shadow is not None and not settings.opa.shadow.is_dir():
        click.echo(
            f"opa.shadow: there is no directory {settings.opa.shadow}; the gateway serves, and no "
            "candidate is asked."
        )
    if not settings.upstreams:
        click.echo("It names no upstream yet: add one under upstreams, or use regate serve --upstream URL.")
    if settings.is_development:
        click.echo(
            "Authentication: development mode (own secret, loopback only). Mint tokens with regate token."
        )


@config.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of YAML.")
def show(config: Path | None, *, as_json: bool) -> None:
    """Show the effective configuration: file, environment and defaults together. It holds the places
    of secrets, never secrets.
    """
    import orjson
    import yaml

    from regate_gateway.config.loading import load_settings
    from regate_gateway.config.loading import show as plain

    values = plain(load_settings(config))
    if as_json:
        click.echo(orjson.dumps(values, option=orjson.OPT_INDENT_2).decode())
    else:
        click.echo(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), nl=False)


@config.command()
def reference() -> None:
    """Print every setting with its values, default and meaning, as the table in docs/settings.md."""
    from regate_gateway.config.loading import reference_table

    click.echo(reference_table())


@main.command()
@config_option
@data_dir_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object, with a diagnosis for each thing."
)
def doctor(config: Path | None, data_dir: Path | None, *, as_json: bool) -> None:
    """Connect to everything that is configured, and say of each what is there or what is wrong. Changes
    nothing, and serves nothing.

    Backends, the issuer's keys, OPA with its policies, the state database, the vector engines, file storage,
    embedding models. Exit code 0 when all can be used, else 1.
    """
    import asyncio

    from regate_gateway.cli.doctor import report
    from regate_gateway.config.loading import load_settings

    logging.disable()  # what goes wrong is said below, once
    sys.exit(
        asyncio.run(report(load_settings(config, overrides=overrides(data_dir=data_dir)), as_json=as_json))
    )


@main.command()
@config_option
@data_dir_option
@click.option(
    "--upstream",
    metavar="URL",
    help="A backend's base URL, up to and including /v1; replaces those of the configuration.",
)
@click.option("--host", metavar="ADDRESS", help="Address to bind.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port to bind.")
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    help="Processes that serve; more than one need PostgreSQL and a vector engine that is a server.",
)
def serve(config: Path | None, data_dir: Path | None, upstream: str | None, **listen: Any) -> None:
    """Run the gateway until it is told to stop. It says so when it answers.

    \b
    Example: regate serve --upstream http://127.0.0.1:11434/v1
    """
    from regate_gateway.composition.process import prepare
    from regate_gateway.config.loading import file_in_force, load_settings
    from regate_gateway.telemetry.logs import configure_logging

    settings = load_settings(config, overrides=overrides(data_dir=data_dir, upstream=upstream, **listen))
    configure_logging(settings.telemetry.log_level)
    prepare(most_connections=settings.listen.max_connections)
    logging.getLogger("regate.gateway").info("starting", extra={"detail": "loading the program"})
    from regate_gateway.cli.announcing import Serving
    from regate_gateway.composition.checking import require_startable

    require_startable(settings)

    def announce(address: str, revision: str | None) -> None:
        Serving(settings, address, file_in_force(config), revision).announce()

    if settings.listen.workers > 1:
        from regate_gateway.workers.supervisor import supervise

        supervise(settings, announce)
    else:
        from regate_gateway.composition.wiring import serve_alone

        serve_alone(settings, announce)


@main.command()
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the demonstration's data in this directory.",
)
def demo(keep: Path | None) -> None:
    """Show two tenants asking the same question of one shared store, and every decision behind the answers.

    Starts OPA, the gateway and a small bundled backend on free ports of this machine, and stops them at the
    end.
    """
    from regate_gateway.demo.script import main as run_demo

    sys.exit(run_demo(keep))
