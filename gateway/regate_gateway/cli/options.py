"""Options that several commands take, and what they say of the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

config_option = click.option(
    "--config",
    "config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="REGATE_CONFIG",
    help="Configuration file.  [default: regate.yaml in this directory, if there is one]",
)
"""Every command that reads settings takes it."""

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of everything that is stored, in place of the configured.",
)
"""Commands that find there what the gateway stored take it."""


def overrides(*, data_dir: Path | None, upstream: str | None = None, **listen: Any) -> dict[str, Any]:
    """Return what the command line says, nested like the configuration file; `listen` of how to listen."""
    listen = {name: value for name, value in listen.items() if value is not None}
    said: dict[str, Any] = {"listen": listen} if listen else {}
    if upstream is not None:
        said["upstreams"] = [{"name": "default", "base_url": upstream}]
    if data_dir is not None:
        said["data_dir"] = str(data_dir)
    return said
