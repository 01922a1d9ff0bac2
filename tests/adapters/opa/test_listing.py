"""A policy directory is read as it was at one moment, and is what its list of digests says or is
not taken.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.adapters.opa.policies import CHUNK, write_policies

from regate_adapters.opa.policies.listing import DirectoryChanged, digest_list, listing, read_whole
from regate_adapters.opa.policies.source import BrokenPolicy, IncompletePolicy, fingerprint, read_source


def with_list(directory: Path) -> Path:
    (directory / ".digests").write_bytes(digest_list(read_source(directory).files))
    return directory


def test_list_is_what_sha256sum_writes_and_checks(policies: Path) -> None:
    with_list(policies)
    written = subprocess.run(
        ["sha256sum", "chunk/chunk.rego", "system/authz.rego"], cwd=policies, capture_output=True, check=True
    ).stdout
    checked = subprocess.run(
        ["sha256sum", "--strict", "-c", ".digests"], cwd=policies, capture_output=True, check=False
    )

    assert ((policies / ".digests").read_bytes(), checked.returncode) == (written, 0)


@pytest.mark.parametrize("prefix", ["  ./", " *", " *./"])
def test_list_that_sha256sum_writes_in_another_way_is_read_too(prefix: str, policies: Path) -> None:
    with_list(policies)
    (policies / ".digests").write_text((policies / ".digests").read_text().replace("  ", prefix))

    assert read_source(policies).listed


DEPARTURES: dict[str, tuple[Callable[[Path], object], str]] = {
    "changed": (
        lambda it: (it / "chunk/chunk.rego").write_text(CHUNK + "\n"),
        r"chunk/chunk\.rego is another one",
    ),
    "emptied": (lambda it: (it / "chunk/chunk.rego").write_text(""), r"chunk/chunk\.rego is another one"),
    "missing": (lambda it: (it / "chunk/chunk.rego").unlink(), r"chunk/chunk\.rego is missing"),
    "added": (lambda it: (it / "data.json").write_text("{}"), r"data\.json is not in the list"),
    "a manifest added": (lambda it: (it / ".manifest").write_text("{}"), r"\.manifest is not in the list"),
    "moved": (
        lambda it: (it / "chunk/chunk.rego").rename(it / "chunk.rego"),
        r"chunk\.rego is not in the list",
    ),
    "list emptied": (lambda it: (it / ".digests").write_text(""), "line 1 is no digest and name"),
    "list of nothing": (lambda it: (it / ".digests").write_text("hello\n"), "line 1 is no digest and name"),
    "list in another encoding": (lambda it: (it / ".digests").write_bytes(b"\xff\xfe\n"), "utf-8"),
}


@pytest.mark.parametrize("name", DEPARTURES)
def test_directory_that_departs_from_its_list_is_refused_and_told_in_what(name: str, policies: Path) -> None:
    leave, fault = DEPARTURES[name]
    leave(with_list(policies))

    with pytest.raises(IncompletePolicy, match=fault):
        read_source(policies)


def test_no_part_of_a_list_passes_for_the_list(policies: Path) -> None:
    text = (with_list(policies) / ".digests").read_bytes()
    passed = []
    for length in range(len(text) - 1):  # without its last line end it says the same
        (policies / ".digests").write_bytes(text[:length])
        with contextlib.suppress(IncompletePolicy):
            passed.append(read_source(policies))

    assert passed == []


@pytest.mark.parametrize(
    "name", ["README.md", "chunk/chunk_test.rego", ".git/config", "chunk/.chunk.rego.swp"]
)
def test_what_is_no_policy_may_come_and_go_beside_a_list(name: str, policies: Path) -> None:
    with_list(policies)
    (policies / name).parent.mkdir(exist_ok=True)
    (policies / name).write_text("package regate.more")

    assert read_source(policies).listed


def test_list_may_name_what_is_no_policy(policies: Path) -> None:
    (policies / ".digests").write_bytes(
        digest_list({**read_source(policies).files, "README.md": b"gone since"})
    )

    assert read_source(policies).listed


def test_list_is_no_part_of_the_revision(policies: Path) -> None:
    before = read_source(policies).revision

    assert read_source(with_list(policies)).revision == before


# ---------------------------------------------------------------- read at one moment


@pytest.mark.parametrize(
    "meddle",
    [
        lambda it: (it / "system/authz.rego").write_text("package system.authz\n"),
        lambda it: (it / "system/authz.rego").unlink(),
        lambda it: (it / "more.rego").write_text("package regate.more\n"),
        lambda it: (it / "chunk/chunk.rego").touch(),
        lambda it: it.rename(it.with_name("elsewhere")),
    ],
    ids=["written", "removed", "added", "touched", "renamed away"],
)
def test_directory_that_is_written_to_while_it_is_read_is_not_read(
    meddle: Callable[[Path], object], policies: Path
) -> None:
    class Meddled(type(policies)):  # type: ignore[misc]
        """A path below which somebody writes when one file is opened."""

        def open(self, *arguments: object, **more: object) -> object:
            if self.name == "chunk.rego":
                meddle(policies)
            return super().open(*arguments, **more)

    with pytest.raises(DirectoryChanged):
        read_whole(Meddled(policies))


def test_directories_that_are_swapped_at_any_time_are_never_mixed(tmp_path: Path) -> None:
    names = [f"p{number}.rego" for number in range(20)]
    versions = [
        write_policies(tmp_path / text, dict.fromkeys(names, f"package {text}")) for text in ("one", "two")
    ]
    place, ended, mixed, whole = tmp_path / "place", threading.Event(), 0, 0
    place.symlink_to(versions[0])

    def swap() -> None:
        for version in itertools.cycle(versions):
            (tmp_path / "next").symlink_to(version)
            (tmp_path / "next").replace(place)
            if ended.wait(random.random() / 300):
                return

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        until = time.monotonic() + 60
        while whole < 300 and time.monotonic() < until:
            with contextlib.suppress(BrokenPolicy):
                contents = {content for name, content in read_source(place).files.items() if name in names}
                whole, mixed = whole + 1, mixed + (len(contents) > 1)
    finally:
        ended.set()
        thread.join()

    assert (mixed, whole > 0) == (0, True)


def test_pipe_is_no_policy_and_is_not_waited_for(policies: Path) -> None:
    before = listing(policies)
    os.mkfifo(policies / "chunk" / "chunk.yaml")

    assert (listing(policies), read_source(policies).files.keys()) == (before, before.keys())


def test_directory_that_is_not_there_or_no_directory_is_refused_as_incomplete(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("package regate.x")
    for place in (tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(IncompletePolicy, match="cannot be read"):
            read_source(place)
        assert fingerprint(place) == frozenset()


# ---------------------------------------------------------------- links


def test_folder_behind_a_link_is_part_of_the_policy(policies: Path, tmp_path: Path) -> None:
    write_policies(tmp_path / "team", {"chunk/chunk.rego": "package regate.custom.chunk\n"})
    (policies / "custom").symlink_to(tmp_path / "team")

    assert "custom/chunk/chunk.rego" in read_source(policies).files


def test_links_that_lead_round_in_a_circle_end(policies: Path) -> None:
    before = read_source(policies).files
    (policies / "chunk" / "again").symlink_to(policies)

    assert read_source(policies).files == before


def test_link_that_leads_nowhere_is_refused_and_not_left_out(policies: Path, tmp_path: Path) -> None:
    (policies / "custom.rego").symlink_to(tmp_path / "absent.rego")

    with pytest.raises(BrokenPolicy, match=r"custom\.rego"):
        read_source(policies)


def test_directory_behind_a_link_that_is_swapped_has_changed(policies: Path, tmp_path: Path) -> None:
    other = write_policies(tmp_path / "other", {"chunk/chunk.rego": CHUNK})
    link = tmp_path / "current"
    link.symlink_to(policies)
    before = fingerprint(link)
    link.unlink()
    link.symlink_to(other)

    assert (fingerprint(link) == before, read_source(link).revision) == (
        False,
        read_source(policies).revision,
    )


def test_folders_of_a_config_map_are_read_once(policies: Path, tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    policies.rename(mounted / "..2026_11_28")
    (mounted / "..data").symlink_to("..2026_11_28")
    for name in ("chunk", "system"):
        (mounted / name).symlink_to(f"..data/{name}")

    assert sorted(read_source(mounted).files) == ["chunk/chunk.rego", "system/authz.rego"]


def test_directory_of_very_many_files_is_refused(policies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regate_adapters.opa.policies.listing._MAX_FILES", 1)

    with pytest.raises(BrokenPolicy, match="more than 1 files"):
        read_source(policies)


def test_directory_of_very_many_bytes_is_refused_unread(
    policies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regate_adapters.opa.policies.listing.MAX_BYTES", 10)

    with pytest.raises(BrokenPolicy, match="more than 10 bytes"):
        read_source(policies)
