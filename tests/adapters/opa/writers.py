"""Ways in which people put a policy in place of another, each as a writer that stops between every two things
it does, in the middle of files too.

They do what `cp`, `rsync`, `mv`, `ln` and Kubernetes do to a directory, step by step. A stop is a `yield`;
what is there at a stop is what a gateway finds when the disk is slow, or the writer was killed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

Writer = Callable[[Path, Path], Iterator[None]]


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _written(path: Path, content: bytes) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        yield
        file.write(content[: len(content) // 2])
        file.flush()
        yield
        file.write(content[len(content) // 2 :])
    yield


def copied(order: Callable[[list[str]], list[str]]) -> Writer:
    """`cp -r new/. live/`, files in this order, then what is not in the new one removed."""

    def write(new: Path, live: Path) -> Iterator[None]:
        for name in order(files_of(new)):
            yield from _written(live / name, (new / name).read_bytes())
        for name in sorted(set(files_of(live)) - set(files_of(new))):
            (live / name).unlink()
            yield

    return write


def removed_first(order: Callable[[list[str]], list[str]]) -> Writer:
    """`rm -rf live && cp -r new live`."""

    def write(new: Path, live: Path) -> Iterator[None]:
        for name in files_of(live):
            (live / name).unlink()
            yield
        shutil.rmtree(live)
        yield
        yield from copied(order)(new, live)

    return write


def synchronized(new: Path, live: Path) -> Iterator[None]:
    """`rsync -a --delete new/ live/`: what is not in the new one goes first, each file is written
    hidden and renamed, with its old time.
    """
    for name in sorted(set(files_of(live)) - set(files_of(new))):
        (live / name).unlink()
        yield
    for name in files_of(new):
        if (live / name).exists() and (live / name).read_bytes() == (new / name).read_bytes():
            continue
        hidden = (live / name).with_name(f".{Path(name).name}.x7Qd2f")
        yield from _written(hidden, (new / name).read_bytes())
        shutil.copystat(new / name, hidden)
        hidden.replace(live / name)
        yield


def renamed(new: Path, live: Path) -> Iterator[None]:
    """`mv live old && mv new live`."""
    live.rename(live.with_name("old"))
    yield
    shutil.copytree(new, live.with_name("next"))
    live.with_name("next").rename(live)
    yield


def relinked(new: Path, live: Path) -> Iterator[None]:
    """`ln -sfn new live`, of a link: it is removed and made."""
    if live.is_symlink():
        live.unlink()
    else:
        live.rename(live.with_name("old"))
    yield
    live.symlink_to(new)
    yield


def projected(new: Path, live: Path) -> Iterator[None]:
    """What Kubernetes does when a ConfigMap changes: a folder of its own, one link swapped, then the
    links to the files set right.
    """
    payload = live / f"..{new.name}"
    for name in files_of(new):
        yield from _written(payload / name, (new / name).read_bytes())
    (live / "..data_tmp").symlink_to(payload.name)
    yield
    before = (live / "..data").resolve() if (live / "..data").exists() else None
    (live / "..data_tmp").rename(live / "..data")
    yield
    tops = {name.split("/")[0] for name in files_of(new)}
    for top in sorted(tops):
        if not (live / top).is_symlink():
            (live / top).symlink_to(f"..data/{top}")
            yield
    for link in sorted(
        path for path in live.iterdir() if not path.name.startswith("..") and path.name not in tops
    ):
        link.unlink()
        yield
    if before is not None:
        shutil.rmtree(before)
        yield


def base_then_overlay(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: name.startswith("custom/"))


def list_first(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: (name != ".digests", name))


def list_last(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: (name == ".digests", name))


def backwards(names: list[str]) -> list[str]:
    return sorted(names, reverse=True)
