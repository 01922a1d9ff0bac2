"""Texts of servers, made fit to be read by models and people: without what nobody sees, without our secrets,
and bounded. Pure.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from typing import Final, TypeVar, cast

from regate_orchestrator.values import Json

_KEPT: Final = frozenset("\n\t")
_REMOVED: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_FILLERS: Final = frozenset("\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
_SELECTORS: Final = re.compile("[\ufe00-\ufe0d\U000e0100-\U000e01ef]")
"""Variation selectors, but those of text and emoji: a run of them can spell what only a model reads."""
_SHORTEST_SECRET: Final = 6
_HIDDEN: Final = "***"

Value = TypeVar("Value", bound=Json)


class Cleaner:
    """Cleans the texts of one exchange, in which these secrets were sent."""

    def __init__(self, secrets: Collection[str] = ()) -> None:
        self._secrets = sorted(
            (one for one in secrets if len(one) >= _SHORTEST_SECRET), key=len, reverse=True
        )

    def text(self, text: str, *, most: int | None = None) -> str:
        """Return the text without control, zero-width, direction and tag characters, and without the secrets;
        cut at so many characters.
        """
        if not text.isascii() or not text.isprintable():
            text = "".join(filter(_is_seen, text.replace("\r\n", "\n")))
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        return text if most is None or len(text) <= most else text[: most - 1] + "…"

    def value(self, value: Value) -> Value:
        """Return a JSON value with all of its texts cleaned, names of members included."""
        return cast("Value", self._cleaned(value))

    def _cleaned(self, value: Json) -> Json:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(name): self._cleaned(one) for name, one in value.items()}
        return [self._cleaned(one) for one in value] if isinstance(value, list | tuple) else value


def _is_seen(character: str) -> bool:
    if character in _KEPT:
        return True
    if character in _FILLERS or _SELECTORS.match(character):
        return False
    return unicodedata.category(character) not in _REMOVED
