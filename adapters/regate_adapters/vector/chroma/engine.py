"""The Chroma client at a place: made when it is first needed, and made anew before it holds more indexes than
the place can bear.

In a client that let go of nothing yet, every collection can be read and written; in one that did, an index
may be there twice, or without what was not stored yet (`place.py` says why). Closing the client gives all of
them back, and the next one reads each from the disk again, with the newest chunks from Chroma's own log. So a
client is used for so many stores, and not for one more.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from regate_adapters.vector.chroma.place import ChromaPlace
from regate_orchestrator.values import StoreId

if TYPE_CHECKING:
    from chromadb.api import ClientAPI


class ChromaEngine:
    """One client for all threads. Whoever waits for it to be made anew keeps those behind waiting too:
    uses must be short.
    """

    def __init__(self, place: ChromaPlace) -> None:
        self._place = place
        self._client: ClientAPI | None = None
        self._opened: set[StoreId] = set()
        self._turn = threading.Lock()
        self._users = 0
        self._changed = threading.Condition()

    @contextmanager
    def using(self, store: StoreId, *, briefly: bool = False) -> Iterator[ClientAPI]:
        """Yield the client for use with this store alone. It must not be used afterwards, nor this be entered
        by a thread that is inside it.

        What is used `briefly` is housekeeping: if it alone made a client necessary, that is closed again.
        """
        with self._turn:
            client = self._for(store)
            self._enter()
        try:
            yield client
        finally:
            self._leave()
            if briefly:
                self._close_if_alone(store)

    def probe(self) -> None:
        """Fail with anything when the engine does not answer. Never makes a client."""
        with self._turn:
            client = self._client
            self._enter()
        try:
            self._place.probe(client)
        finally:
            self._leave()

    def close(self) -> None:
        """Close the client, once nobody uses it."""
        with self._turn:
            self._close()

    def _for(self, store: StoreId) -> ClientAPI:
        """Return the client that may be used for the store. Called in turn."""
        most = self._place.most_open
        if most is not None and store not in self._opened and len(self._opened) >= most:
            self._close()
        if self._client is None:
            self._client = self._place.client()
        if most is not None:
            self._opened.add(store)
        return self._client

    def _close_if_alone(self, store: StoreId) -> None:
        with self._turn:
            if self._opened == {store}:
                self._close()

    def _close(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._users == 0)
        client, self._client = self._client, None
        self._opened.clear()
        if client is not None:
            client.close()

    def _enter(self) -> None:
        with self._changed:
            self._users += 1

    def _leave(self) -> None:
        with self._changed:
            self._users -= 1
            self._changed.notify_all()
