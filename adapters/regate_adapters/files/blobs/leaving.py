"""Leaving nothing of an upload that failed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine

from regate_orchestrator.errors import StateUnavailable
from regate_orchestrator.values import FileId

_log = logging.getLogger("regate.files")


async def leave_nothing(file: FileId, removing: Coroutine[None, None, None]) -> None:
    """Remove what an upload left, if the storage answers; cancelled meanwhile, it goes on to its end all the
    same. What stays is logged.
    """
    # Awaited here, and shielded from the cancellation we may be in
    cleaning = asyncio.ensure_future(removing)  # noqa: TID251
    try:
        await asyncio.shield(cleaning)
    except asyncio.CancelledError:
        await asyncio.wait([cleaning])
        raise
    except StateUnavailable as error:
        _log.warning("upload_left_behind", extra={"file": file, "detail": error.detail})
