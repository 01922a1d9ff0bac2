"""The `regate prompt` group: prompts of a running gateway, over its API and with a token. What they are is
said in docs/prompts.md.

Exit codes are those of `regate`: 0 done, 1 refused or failed with the reason on standard error, 2 wrong
usage.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar

import click

from regate_gateway.cli.texts import plain

if TYPE_CHECKING:
    from regate_gateway.cli.gateway_client import GatewayClient

Command = TypeVar("Command", bound=Callable[..., Any])

_DEFAULT_URL: Final = "http://127.0.0.1:8080/v1"
_TOKENS: Final = ("REGATE_TOKEN", "OPENAI_API_KEY")
_CREATED_FROM: Final = frozenset({"name", "metadata", "template"})


class PromptCommands(click.Group):
    """A group whose commands report what a gateway refused in one place."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        from regate_gateway.cli.gateway_client import Refused

        try:
            return super().invoke(ctx)
        except Refused as refusal:
            click.echo(f"regate: {refusal}", err=True)
            ctx.exit(1)


@click.group(cls=PromptCommands)
def prompt() -> None:
    """Manage the prompts of a running gateway: templates with versions and variables.

    A request uses one as {"prompt": {"id": "pmpt_...", "version": "2", "variables": {"city": "Lyon"}}}. The
    caller is whoever the token in REGATE_TOKEN, or else in OPENAI_API_KEY, names; what they may see and do is
    decided by policy.
    """


def _connected(command: Command) -> Command:
    """Give a command the options that say which gateway is asked and how the answer is shown."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON."),
        click.option(
            "--url",
            envvar=["REGATE_URL", "OPENAI_BASE_URL"],
            default=_DEFAULT_URL,
            show_default=True,
            metavar="URL",
            help="The gateway, up to and including /v1; or in REGATE_URL or OPENAI_BASE_URL.",
        ),
    ):
        command = option(command)
    return command


_file: Final = click.File("rb")
_FILE_HELP: Final = """
    FILE is YAML or JSON, - for standard input, with the keys name, metadata and template:

    \b
      name: Weather
      metadata: {regate.visibility: tenant}
      template:
        model: small
        instructions: You answer in {{language}}.
        input:
          - {role: user, content: "What is the weather in {{city}}?"}
"""


@prompt.command("list")
@_connected
def listing(url: str, *, as_json: bool) -> None:
    """List the prompts you may see: id, default and latest version, when it was made, name."""
    found = list(_client(url).pages("prompts", cursor="id"))
    if as_json:
        _print_json(found)
        return
    for one in found:
        click.echo(
            f"{one['id']}  {one['default_version']}/{one['latest_version']}  {_day(one)}  "
            f"{plain(one['name'])}"
        )


@prompt.command()
@click.argument("prompt_id", metavar="ID")
@click.option(
    "--version",
    "number",
    metavar="N",
    help="Show this version alone.  [default: the prompt, with its default version's template]",
)
@_connected
def show(prompt_id: str, number: str | None, url: str, *, as_json: bool) -> None:
    """Show a prompt with its template and variables, as YAML."""
    client = _client(url)
    found = (
        client.call("GET", "prompts", prompt_id)
        if number is None
        else client.call("GET", "prompts", prompt_id, "versions", number)
    )
    _print(found, as_json=as_json)


@prompt.command()
@click.argument("prompt_id", metavar="ID")
@_connected
def versions(prompt_id: str, url: str, *, as_json: bool) -> None:
    """List the versions of a prompt, oldest first: number, when it was made, variables."""
    found = list(_client(url).pages("prompts", prompt_id, "versions", cursor="version"))
    if as_json:
        _print_json(found)
        return
    for one in found:
        click.echo(f"{one['version']}  {_day(one)}  {' '.join(one['variables'])}".rstrip())


@prompt.command(help="Create a prompt from a file, and print its id." + _FILE_HELP)
@click.argument("file", type=_file)
@click.option("--name", metavar="TEXT", help="The prompt's name, whatever the file says.")
@click.option(
    "--metadata",
    multiple=True,
    metavar="KEY=VALUE",
    help="Metadata beside the file's, e.g. regate.visibility=private (repeatable).",
)
@_connected
def create(file: IO[bytes], name: str | None, metadata: Sequence[str], url: str, *, as_json: bool) -> None:
    """Create a prompt."""
    body = _read(file)
    if name is not None:
        body["name"] = name
    if metadata:
        body["metadata"] = {**(body.get("metadata") or {}), **dict(map(_pair, metadata))}
    made = _client(url).call("POST", "prompts", body=body)
    if as_json:
        _print_json(made)
    else:
        click.echo(made["id"])


@prompt.command()
@click.argument("prompt_id", metavar="ID")
@click.option(
    "--file", type=_file, help="Add the template in this file, written as for create, as a new version."
)
@click.option("--make-default", is_flag=True, help="Make the version that --file adds the default.")
@click.option("--default-version", metavar="N", help="Make this version the default.")
@click.option("--name", metavar="TEXT", help="Change the name.")
@_connected
def update(
    prompt_id: str,
    file: IO[bytes] | None,
    default_version: str | None,
    name: str | None,
    url: str,
    *,
    make_default: bool,
    as_json: bool,
) -> None:
    """Add a version to a prompt, choose its default version, or change its name.

    A version is never changed: requests that name one get the same template for good. Name and metadata in a
    file are left out here.
    """
    if file is None and default_version is None and name is None:
        raise click.UsageError("Say what to update: --file, --default-version or --name.")
    if make_default and (file is None or default_version is not None):
        raise click.UsageError("--make-default goes with --file, and without --default-version.")
    client = _client(url)
    if file is not None:
        added = client.call(
            "POST", "prompts", prompt_id, "versions", body={"template": _read(file).get("template")}
        )
        default_version = added["version"] if make_default else default_version
    changes = {
        key: value
        for key, value in (("name", name), ("default_version", default_version))
        if value is not None
    }
    found = (
        client.call("POST", "prompts", prompt_id, body=changes)
        if changes
        else client.call("GET", "prompts", prompt_id)
    )
    if as_json:
        _print_json(found)
    else:
        click.echo(
            f"{plain(found['name'])}: latest version {found['latest_version']}, default version "
            f"{found['default_version']}"
        )


@prompt.command()
@click.argument("prompt_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_connected
def delete(prompt_id: str, url: str, *, yes: bool, as_json: bool) -> None:
    """Delete a prompt with all its versions. Requests that use it are refused from then on."""
    client = _client(url)
    if not yes:
        click.confirm(f"Delete {plain(prompt_id)} with all its versions?", abort=True, err=True)
    deleted = client.call("DELETE", "prompts", prompt_id)
    if as_json:
        _print_json(deleted)
    else:
        click.echo(f"Deleted {deleted['id']}.")


def _client(url: str) -> GatewayClient:
    from regate_gateway.cli.gateway_client import GatewayClient
    from regate_gateway.config.secret import Secret, header_secret

    if not url.startswith(("http://", "https://")):
        raise click.UsageError("--url must begin with http:// or https://.")
    variable = next((name for name in _TOKENS if os.environ.get(name)), None)
    if variable is None:
        raise click.UsageError(f"Set {_TOKENS[0]} or {_TOKENS[1]} to a token, e.g. one from regate token.")
    return GatewayClient(url, header_secret(Secret(os.environ[variable]), setting=variable))


def _read(file: IO[bytes]) -> dict[str, Any]:
    """Return what a prompt is made from. Raises `Refused` for a file that does not hold it."""
    import yaml

    from regate_gateway.cli.gateway_client import Refused

    try:
        content = yaml.safe_load(file)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
        raise Refused(f"{file.name} is neither YAML nor JSON{place}") from None
    if not isinstance(content, dict) or "template" not in content or not set(content) <= _CREATED_FROM:
        raise Refused(f"{file.name} must hold a template, and beside it nothing but name and metadata")
    if not isinstance(content.get("metadata") or {}, dict):
        raise Refused(f"{file.name}: metadata must be a mapping")
    return content


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise click.UsageError(f"--metadata {text}: write KEY=VALUE.")
    return key, value


def _print(found: Mapping[str, Any], *, as_json: bool) -> None:
    import yaml

    if as_json:
        _print_json(found)
    else:
        click.echo(yaml.safe_dump(dict(found), sort_keys=False, allow_unicode=True), nl=False)


def _print_json(found: object) -> None:
    import orjson

    click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())


def _day(found: Mapping[str, Any]) -> str:
    return datetime.fromtimestamp(found["created_at"], UTC).strftime("%Y-%m-%d")
