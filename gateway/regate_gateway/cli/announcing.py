"""What `regate serve` says once it answers: to a person at a terminal a line of text, to whatever
collects logs a line of the log.
"""

from __future__ import annotations

import logging
import shlex
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import click

from regate_gateway.config.settings import Settings

_log = logging.getLogger("regate.gateway")


@dataclass(frozen=True, slots=True)
class Serving:
    """A gateway that answers: where, by which configuration and policy, and with which data."""

    settings: Settings
    address: str
    configuration: Path | None
    revision: str | None

    def announce(self) -> None:
        """Say that it answers, and in development how to obtain a token."""
        if sys.stderr.isatty():
            click.echo(self._line(), err=True)
            if self._mints_tokens:
                click.echo(f"Development tokens: export OPENAI_API_KEY=$({self._token_command()})", err=True)
        else:
            _log.info("serving", extra=self._fields())
            if self._mints_tokens:
                _log.info("development_mode", extra={"command": self._token_command()})

    @property
    def _mints_tokens(self) -> bool:
        return self.settings.is_development and not self.settings.auth.anonymous

    def _fields(self) -> dict[str, str]:
        return {
            "version": version("regate"),
            "address": f"{self.address}/v1",
            "configuration": "none" if self.configuration is None else str(self.configuration.absolute()),
            "data_dir": str(self.settings.data_dir.absolute()),
            "revision": self.revision or "none yet",
        } | ({} if self.settings.upstreams else {"lacking": "an upstream: files, stores and search only"})

    def _line(self) -> str:
        said = self._fields()
        lacking = f", without {said['lacking']}" if "lacking" in said else ""
        return (
            f"Regate {said['version']} serves {said['address']}{lacking} "
            f"(configuration: {said['configuration']}, data: {said['data_dir']}, policy: {said['revision']})"
        )

    def _token_command(self) -> str:
        """Return the command that mints a token of this gateway, for whatever directory it is typed in."""
        data_dir = shlex.quote(str(self.settings.data_dir.absolute()))
        return f"{own_command()} token --data-dir {data_dir} --sub alice --tenant acme --team hr"


def own_command() -> str:
    """Return how this program is called from any directory: its name where that is found, else what it
    was called by.
    """
    called = Path(sys.argv[0])
    if called.name == "__main__.py" or not called.is_file():
        return f"{shlex.quote(sys.executable)} -m regate_gateway"
    found = shutil.which(called.name)
    return (
        called.name
        if found is not None and Path(found).samefile(called)
        else shlex.quote(str(called.absolute()))
    )
