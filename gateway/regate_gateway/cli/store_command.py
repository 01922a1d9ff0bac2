"""The `regate store` group: moves vector stores between the engines of a configuration.

Exit codes are those of `regate`.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from pathlib import Path
from typing import Final

import click

from regate_gateway.cli.options import config_option, data_dir_option, overrides

_QUIET_SECONDS: Final = 2.0


@click.group()
def store() -> None:
    """Move vector stores between engines."""


@store.command()
@click.argument("store_id", metavar="STORE")
@click.argument("engine")
@config_option
@data_dir_option
def copy(store_id: str, engine: str, config: Path | None, data_dir: Path | None) -> None:
    """Copy the vector store STORE to ENGINE of vector.stores, and have it there from then on.

    Stop all gateways first. The store's chunks are copied and compared, its row names the new engine, and the
    old engine lets go of them. When this is broken off, the same command goes on; until it is done the store
    is where it was.
    """
    from regate_gateway.composition.stores import move_store
    from regate_gateway.config.loading import load_settings
    from regate_orchestrator.errors import ConfigurationError, RegateError
    from regate_orchestrator.retrieval.moving import MoveRefused
    from regate_orchestrator.values import StoreId

    logging.disable()  # what goes wrong is said below, once
    settings = load_settings(config, overrides=overrides(data_dir=data_dir))
    try:
        moved = asyncio.run(move_store(settings, StoreId(store_id), engine, _Progress()))
    except ConfigurationError:
        raise
    except (MoveRefused, RegateError) as error:
        click.echo(f"regate: {getattr(error, 'detail', '') or error}", err=True)
        sys.exit(1)
    if moved.was_there:
        click.echo(f"{store_id} is in {engine} already; no other engine has any of it.")
    else:
        click.echo(
            f"{store_id} is in {engine}: {moved.chunks} chunks, {moved.written} of them written now; "
            f"{moved.compared} searches found the same in both engines."
        )


class _Progress:
    """Tells on standard error, at first and every other second, how far it is."""

    def __init__(self) -> None:
        self._told = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._told >= _QUIET_SECONDS:
            self._told = now
            click.echo(f"regate: {done:,} of {total:,} chunks are copied", err=True)
