"""A file that comes in pieces of any size, in parts of one size as storages take them (`s3.py`, `gcs.py`)."""

from __future__ import annotations

from regate_orchestrator.errors import TooLarge


class Parts:
    """Gathers pieces to parts of `size` bytes. `written` counts what came; of more than `limit` bytes
    nothing is taken.
    """

    def __init__(self, *, size: int, limit: int) -> None:
        self._size = size
        self._limit = limit
        self._left = bytearray()
        self.written = 0

    def add(self, piece: bytes) -> list[bytes]:
        """Return the parts that are whole now. What may be the last part is kept back. Raises `TooLarge`."""
        self.written += len(piece)
        if self.written > self._limit:
            raise TooLarge(f"The file is larger than {self._limit} bytes.", param="file")
        self._left += piece
        whole = []
        while len(self._left) > self._size:
            whole.append(bytes(self._left[: self._size]))
            del self._left[: self._size]
        return whole

    def last(self) -> bytes:
        """Return what is left, once all has come."""
        return bytes(self._left)
