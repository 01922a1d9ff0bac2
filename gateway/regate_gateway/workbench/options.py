"""The options that several policy commands have in common."""

from __future__ import annotations

from pathlib import Path

import click

config_option = click.option(
    "--config",
    "config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="REGATE_CONFIG",
    help=(
        "Configuration file, which names the policy directory and the vector store.  [default: "
        "regate.yaml, if there is one]"
    ),
)
overlay_option = click.option(
    "--overlay",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A team's own directory, to lay over the policies.",
)
policy_option = click.option(
    "--policy",
    "directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help=(
        "Policy directory.  [default: with --overlay the shipped one; else the configured one, if there is "
        "one]"
    ),
)
html_option = click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the report as a page to look at, too.",
)
