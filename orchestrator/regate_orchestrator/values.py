"""Values that every part shares: JSON, identifiers, and the clock. No behaviour beyond making them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NewType, TypeAlias

Json: TypeAlias = str | int | float | bool | None | Sequence["Json"] | Mapping[str, "Json"]
JsonObject: TypeAlias = Mapping[str, Json]

StoreId = NewType("StoreId", str)
FileId = NewType("FileId", str)
UploadId = NewType("UploadId", str)
PartId = NewType("PartId", str)
BatchId = NewType("BatchId", str)
ResponseId = NewType("ResponseId", str)
ConversationId = NewType("ConversationId", str)
ItemId = NewType("ItemId", str)
PromptId = NewType("PromptId", str)
RequestId = NewType("RequestId", str)
GatewayId = NewType("GatewayId", str)

Clock: TypeAlias = Callable[[], float]
"""Returns the time as epoch seconds. Injected, so that no test sleeps."""

wall_clock: Clock = time.time


def mint(prefix: str) -> str:
    """Return a new identifier with 192 random bits, e.g. `mint('resp_')`. Identifiers are minted here
    and never accepted from outside.
    """
    return prefix + secrets.token_hex(24)
