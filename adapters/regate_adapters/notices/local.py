"""`LocalNotices`: no means. Nobody is told, nobody hears, and every gateway looks for itself."""

from __future__ import annotations

from regate_orchestrator.ports import Hear, Topic


class LocalNotices:
    """Tells nobody."""

    is_shared = False

    def subscribe(self, topic: Topic, hear: Hear) -> None:
        """Remember nothing: there are no notices."""

    def tell(self, topic: Topic, about: str = "") -> None:
        """Tell nobody."""
