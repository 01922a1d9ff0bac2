"""The copies of checkpoints: the newest is always there in the end, whatever came while one was written."""

from __future__ import annotations

import asyncio
from pathlib import Path

from regate_adapters.audit.checkpoints import Checkpoint
from regate_adapters.audit.copying import CheckpointCopies


async def never(_: Checkpoint) -> None:
    raise AssertionError("nothing was cut")


async def test_what_is_offered_while_another_is_copied_is_copied_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "copies"
    for _ in range(20):
        copies = CheckpointCopies(path, last=0, on_cut=never)
        async with asyncio.TaskGroup() as group:
            group.create_task(copies.work())
            copies.offer(b"first\n")
            await asyncio.sleep(0)  # the first is being copied from here on
            await asyncio.sleep(0)
            copies.offer(b"last\n")
            copies.close()
        assert path.read_bytes().endswith(b"last\n")


async def test_a_copy_that_fails_does_not_keep_the_log_from_ending(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    copies = CheckpointCopies(tmp_path / "file" / "copies", last=0, on_cut=never)
    async with asyncio.TaskGroup() as group:
        group.create_task(copies.work())
        copies.offer(b"line\n")
        copies.close()

    assert copies.failures == 1
