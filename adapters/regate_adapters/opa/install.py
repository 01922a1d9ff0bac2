"""Obtains OPA, and finds it again: `python -m regate_adapters.opa.install --into DIR`.

Taken, in this order, from an `opa` on PATH that is new enough, or compiled from OPA's Go module. Not what
runs OPA (`opa/server/process.py`).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from regate_adapters.go_commands import compiled, say
from regate_orchestrator.errors import ConfigurationError

OLDEST: Final = (1, 22, 2)
"""The oldest OPA whose partial evaluation the translator was proven on; older ones negate mirrored
comparisons (OPA pull request 9373).
"""

_MODULE: Final = f"github.com/open-policy-agent/opa@v{'.'.join(map(str, OLDEST))}"
_VERSION: Final = re.compile(r"^Version: (\d+)\.(\d+)\.(\d+)", re.MULTILINE)
_ADVICE: Final = (
    f"install OPA {'.'.join(map(str, OLDEST))} or newer and put `opa` on PATH (see openpolicyagent.org, "
    "“Download OPA”)"
)


def find_opa(extra_dirs: Sequence[Path] = ()) -> Path | None:
    """Return an OPA that is new enough: in the given directories (or itself given), in `.tools` of the
    project or here, or on PATH.
    """
    for candidate in _candidates(extra_dirs):
        version = opa_version(candidate)
        if version is not None and version >= OLDEST:
            return candidate
    return None


def require_opa(extra_dirs: Sequence[Path] = ()) -> Path:
    """Return what `find_opa` does; raises `ConfigurationError` that says what to do when there is none."""
    found = find_opa(extra_dirs)
    if found is None:
        raise ConfigurationError(f"no `opa` that is new enough was found: run `make setup`, or {_ADVICE}")
    return found


def opa_version(opa: Path) -> tuple[int, ...] | None:
    """Return the version of this executable, or None when it is no OPA that runs here."""
    try:
        file = opa.stat()
        return _version_of(opa, (file.st_ino, file.st_mtime_ns, file.st_size))
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


@lru_cache(maxsize=8)
def _version_of(opa: Path, _file: tuple[int, int, int]) -> tuple[int, ...]:
    """Ask the executable, once for each file that it has been; raises when it does not say."""
    done = subprocess.run([opa, "version"], capture_output=True, text=True, check=False, timeout=30, env={})
    found = _VERSION.search(done.stdout)
    if found is None:
        raise ValueError(f"{opa} is no OPA")
    return tuple(map(int, found.groups()))


def install(into: Path) -> Path:
    """Return the OPA in the directory, after putting one there unless it is there already. Raises
    `ConfigurationError` with advice.
    """
    into = into.resolve()
    target = into / "opa"
    if _is_new_enough(target):
        say(f"OPA is in {into} already")
        return target
    into.mkdir(parents=True, exist_ok=True)
    on_path = shutil.which("opa")
    if on_path is not None and _is_new_enough(Path(on_path)):
        say(f"using the OPA on PATH: {on_path}")
        target.unlink(missing_ok=True)
        target.symlink_to(Path(on_path).resolve())
        return target
    with tempfile.TemporaryDirectory(prefix="regate-opa-", dir=into) as folder:
        built = compiled(_MODULE, Path(folder), advice=_ADVICE)
        if not _is_new_enough(built):
            raise ConfigurationError(f"the OPA that was compiled does not run: {_ADVICE}")
        shutil.move(built, target)
    say(f"OPA is ready: {target}")
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m regate_adapters.opa.install", description="Obtain Open Policy Agent."
    )
    parser.add_argument(
        "--into", type=Path, required=True, metavar="DIR", help="the directory to put `opa` into"
    )
    try:
        install(parser.parse_args(arguments).into)
    except (ConfigurationError, OSError) as error:
        sys.stderr.write(f"OPA could not be installed: {error}\n")
        return 1
    return 0


def _candidates(extra_dirs: Sequence[Path]) -> Iterator[Path]:
    for place in extra_dirs:
        yield place if place.is_file() else place / "opa"
    project = Path(__file__).resolve().parents[3]
    yield project / ".tools" / "opa"
    yield Path.cwd() / ".tools" / "opa"
    on_path = shutil.which("opa")
    if on_path is not None:
        yield Path(on_path)


def _is_new_enough(opa: Path) -> bool:
    return (opa_version(opa) or ()) >= OLDEST


if __name__ == "__main__":
    raise SystemExit(main())
