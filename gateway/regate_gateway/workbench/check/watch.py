"""Checking policies again whenever a file of theirs changes. What is printed after the first time is
only what changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from regate_adapters.opa.install import require_opa
from regate_gateway.workbench.check.checks import FULL, QUICK, Listener, Task, check_policies, deployed_kinds
from regate_gateway.workbench.check.findings import Outcome
from regate_gateway.workbench.check.report import Report, as_page, as_text
from regate_gateway.workbench.check.samples import Sample
from regate_gateway.workbench.check.tools import find_tests
from regate_gateway.workbench.directory import Chosen, sources, with_overlay
from regate_gateway.workbench.page import write_page
from regate_orchestrator.errors import ConfigurationError

_POLL_SECONDS: Final = 0.25

_Seen = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Checking:
    """What the command line says of a check. The policies are chosen, and an overlay is laid over
    them, each time anew.
    """

    directory: Path | None
    overlay: Path | None
    tests: Path | None
    config: Path | None
    samples: Sequence[Sample]
    stores: frozenset[str]
    only: frozenset[str]
    quick: bool

    def check(self, begins: Callable[[str], None], ended: Callable[[Outcome], None]) -> Report:
        """Return the report. Raises `ConfigurationError` where the policies cannot be found or OPA
        does not run.
        """
        chosen = self._chosen()
        with with_overlay(chosen.directory, self.overlay) as merged:
            tests = self._tests(chosen)
            task = Task(
                directory=merged.resolve(),
                shown=str(self.overlay or chosen.directory),
                opa=(chosen.opa or require_opa()).resolve(),
                tests=None if tests is None else tests.resolve(),
                samples=self.samples,
                effort=QUICK if self.quick else FULL,
                deployed=self.stores or deployed_kinds(chosen.store_kinds),
                only=self.only,
            )
            return check_policies(task, Listener(begins, ended))

    def folders(self) -> list[Path]:
        """Return where the files lie that are checked."""
        chosen = self._chosen()
        found = (chosen.directory, self.overlay, self._tests(chosen))
        return [folder for folder in found if folder is not None]

    def _chosen(self) -> Chosen:
        return sources(self.directory, self.config, overlay=self.overlay)

    def _tests(self, chosen: Chosen) -> Path | None:
        return self.tests or find_tests(self.overlay or chosen.directory)


def watch_policies(checking: Checking, html: Path | None) -> None:
    """Check, and check again after each change, until interrupted."""
    folders = checking.folders()
    watch = _Watch(folders)
    try:
        while True:
            report = watch.check(checking)
            if report is not None and html is not None:
                write_page(html, as_page(report))
            click.echo(f"\n{', '.join(watch.changed())} changed")
    except KeyboardInterrupt:
        click.echo("")


class _Overtaken(Exception):
    pass


class _Watch:
    """Knows what was there, and what was told of each check when it last ran."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._seen = _look(folders)
        self._told: dict[str, list[str]] = {}
        self._is_first = True

    def check(self, checking: Checking) -> Report | None:
        """Print what a check came to, and return it; None where the files changed meanwhile, or cannot
        be checked at all.
        """
        try:
            report = checking.check(self._begins, self._ended)
        except _Overtaken:
            return None
        except ConfigurationError as error:
            click.echo(f"regate: {error.message}", err=True)
            return None
        left = sum(map(len, self._told.values()))
        click.echo(as_text(report) if self._is_first else f"{left} in all" if left else "nothing found")
        self._is_first = False
        return report

    def changed(self) -> list[str]:
        """Return which files changed, once some have, and all have been still for a moment."""
        now = self._seen
        while (found := _look(self._folders)) != now or now == self._seen:
            now = found
            time.sleep(_POLL_SECONDS)
        names, self._seen = _difference(self._seen, now), now
        return names

    def _begins(self, _: str) -> None:
        if _look(self._folders) != self._seen:
            raise _Overtaken

    def _ended(self, done: Outcome) -> None:
        """Tell of what is new and gone, at once. Of a check that does not run it is not known whether
        what it found is mended.
        """
        if done.status == "not_run":
            return
        before = self._told.get(done.name, [])
        now = self._told[done.name] = [
            *map(str, done.findings),
            *(f"warning: {one}" for one in done.warnings),
        ]
        if not self._is_first:
            for kind, lines in (
                ("new", [one for one in now if one not in before]),
                ("gone", [one for one in before if one not in now]),
            ):
                for line in lines:
                    click.echo(f"{kind}: {line}")


def _look(folders: Sequence[Path]) -> _Seen:
    """Return size and time of each file; of one that goes away meanwhile nothing."""
    found: dict[str, tuple[int, int]] = {}
    for folder in folders:
        for path in folder.rglob("*"):
            try:
                if path.is_file() and not any(
                    part.startswith(".") for part in path.relative_to(folder).parts
                ):
                    status = path.stat()
                    found[str(path)] = status.st_mtime_ns, status.st_size
            except FileNotFoundError:
                continue
    return found


def _difference(before: _Seen, now: _Seen) -> list[str]:
    """Return which files are new, gone or others, as somebody in this directory names them."""
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    here = Path.cwd()
    return [str(Path(name).relative_to(here)) if Path(name).is_relative_to(here) else name for name in names]
