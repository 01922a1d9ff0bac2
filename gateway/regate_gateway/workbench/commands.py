"""The `regate policy` group: where each of its commands is registered. The work is in the modules beside,
imported when a command runs.

A command that lives in a module of its own is registered in `REGISTERED`, with one line below the group: its
name, and where it is. The module is imported when the command is run or its help is asked for, never before.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Final

import click

from regate_gateway.workbench.options import config_option, overlay_option, policy_option

REGISTERED: Final[dict[str, str]] = {}
"""Command name to `module:attribute`, e.g. `"explain":
"regate_gateway.workbench.explain.explanation:explain"`. Loaded when used.
"""


class LazyCommands(click.Group):
    """A group that knows its commands by name and imports each one's module on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all command names in order."""
        return sorted({*super().list_commands(ctx), *REGISTERED})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name, or None when there is none."""
        place = REGISTERED.get(cmd_name)
        if place is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = place.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{place} is no command")
        return command


@click.group(cls=LazyCommands)
def policy() -> None:
    """Write, check and ship policies: everything short of serving with them."""


REGISTERED["check"] = "regate_gateway.workbench.check.command:check"
REGISTERED["replay"] = "regate_gateway.workbench.replay.command:replay"
REGISTERED["shadow"] = "regate_gateway.workbench.replay.shadow:shadow"
REGISTERED["explain"] = "regate_gateway.workbench.explain.command:explain"


@policy.command()
@click.argument("directory", type=click.Path(path_type=Path))
def init(directory: Path) -> None:
    """Make a repository for a security team's own policies in DIRECTORY: an overlay, its data, its tests and
    its CI.

    DIRECTORY must be new or empty. What is made passes `regate policy check`; its README leads on from there.
    """
    from regate_gateway.workbench.skeleton import write_skeleton

    for name in write_skeleton(directory):
        click.echo(directory / name)
    click.echo(f"Next: cd {directory} && make, and its README.md", err=True)


@policy.command()
@policy_option
@click.option(
    "--overlay",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A team's own directory, to lay over the policies.",
)
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="Directory to write: a new one, or that of an earlier assembly.",
)
@config_option
def assemble(directory: Path | None, overlay: Path, output: Path, config: Path | None) -> None:
    """Write the policies with an overlay laid over them into a directory, for opa.bundle to name. Tests are
    left out.

    The directory is written beside and renamed, and carries a list of digests of its files (.digests),
    without which a gateway never takes it again: a policy is in force whole or not at all. Run it again after
    each change.
    """
    from regate_gateway.workbench.directory import assemble as write
    from regate_gateway.workbench.directory import sources

    write(sources(directory, config, overlay=overlay).directory, overlay, output)
    click.echo(output)


@policy.command()
@policy_option
@overlay_option
@click.option(
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The bundle to write, e.g. bundle.tar.gz.",
)
@click.option(
    "--revision",
    default="",
    metavar="REV",
    help="What decisions are recorded under.  [default: the git commit, else a digest of the content]",
)
@click.option(
    "--signing-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Private key (PEM, RSA) to sign the bundle with, by RS256.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was built as JSON.")
@config_option
def build(
    directory: Path | None,
    overlay: Path | None,
    output: Path,
    revision: str,
    signing_key: Path | None,
    config: Path | None,
    *,
    as_json: bool,
) -> None:
    """Build a bundle, signed if a key is given: for `opa.bundle` with `opa.verification_key`, or for an OPA
    that Regate does not run.

    \b
    Example: regate policy build --overlay overlay --output bundle.tar.gz --signing-key key.pem
             REGATE_OPA__BUNDLE=bundle.tar.gz REGATE_OPA__VERIFICATION_KEY=public.pem regate serve
             opa run --server --bundle bundle.tar.gz --verification-key public.pem
    """
    from dataclasses import asdict

    import orjson

    from regate_adapters.opa.install import require_opa
    from regate_gateway.workbench.build import build as build_bundle
    from regate_gateway.workbench.build import commit_revision
    from regate_gateway.workbench.directory import sources, with_overlay

    if not output.absolute().parent.is_dir():
        raise click.UsageError(f"--output {output}: its directory does not exist")
    chosen = sources(directory, config, overlay=overlay)
    named = revision or commit_revision(overlay or chosen.directory, overlaid=overlay is not None) or ""
    opa = (chosen.opa or require_opa()).resolve()
    with with_overlay(chosen.directory, overlay) as merged:
        built = build_bundle(
            merged.resolve(), output.absolute(), opa=opa, revision=named, signing_key=signing_key
        )
    if as_json:
        click.echo(
            orjson.dumps({"bundle": str(output), **asdict(built)}, option=orjson.OPT_INDENT_2).decode()
        )
        return
    signed = (
        "by RS256; opa.verification_key, or OPA's --verification-key, is the public key"
        if built.signed
        else "no"
    )
    shown = {
        "bundle": output,
        "revision": built.revision,
        "files": built.files,
        "bytes": built.size,
        "sha256": built.digest,
        "signed": signed,
    }
    for name, value in shown.items():
        click.echo(f"{name:<9} {value}")
