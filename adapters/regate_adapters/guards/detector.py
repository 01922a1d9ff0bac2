"""The guard that runs here: secrets, numbers of cards and accounts, e-mail addresses, and phrases that
instruct a model, with their places. It gives labels and no scores.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from typing import Final

from regate_adapters.guards.injection import hidden_texts, instructions
from regate_adapters.guards.numbers import accounts, cards
from regate_adapters.guards.plain_text import plain_text
from regate_adapters.guards.secrets import SECRETS
from regate_orchestrator.ports import Findings, GuardStep, Span

SECRET: Final = "secret"  # noqa: S105 — the name of what is found
PAYMENT_CARD: Final = "payment_card"
BANK_ACCOUNT: Final = "bank_account"
EMAIL: Final = "email"
INJECTION: Final = "injection"
HIDDEN_TEXT: Final = "hidden_text"
LABELS: Final = (SECRET, PAYMENT_CARD, BANK_ACCOUNT, EMAIL, INJECTION, HIDDEN_TEXT)
"""What is found."""

_LOCAL: Final = re.compile(r"[\w.+-]{1,64}\Z")
_DOMAIN: Final = re.compile(
    r"@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,6}\.[A-Za-z]{2,24}(?![A-Za-z0-9])"
)
_LONGEST_LOCAL: Final = 64
_LONG: Final = 16_384


class Detector:
    """Finds what has a shape, in time in proportion to the text's length."""

    async def look(self, texts: Sequence[str], *, step: GuardStep) -> list[Findings]:  # noqa: ARG002
        """Return what is found in each text. See `ports.GuardProvider`."""
        if sum(map(len, texts)) > _LONG:  # others go on meanwhile
            return await asyncio.to_thread(lambda: [found_in(text) for text in texts])
        return [found_in(text) for text in texts]


def found_in(text: str) -> Findings:
    """Return what is found in the text, and where."""
    plain = plain_text(text)
    spans = [Span(*plain.span(start, end), name) for start, end, name in _found(plain.text)]
    if not text.isascii():
        spans += [Span(start, end, HIDDEN_TEXT) for start, end in hidden_texts(text)]
    return Findings(labels=frozenset(span.name for span in spans), spans=tuple(spans))


def _found(text: str) -> Iterator[tuple[int, int, str]]:
    for find, name in (
        (SECRETS.find, SECRET),
        (cards, PAYMENT_CARD),
        (accounts, BANK_ACCOUNT),
        (_addresses, EMAIL),
        (instructions, INJECTION),
    ):
        yield from ((start, end, name) for start, end in find(text))


def _addresses(text: str) -> Iterator[tuple[int, int]]:
    at = text.find("@")
    while at >= 0:
        local = _LOCAL.search(text, max(0, at - _LONGEST_LOCAL), at)
        domain = _DOMAIN.match(text, at)
        if local is not None and domain is not None:
            yield local.start(), domain.end()
        at = text.find("@", at + 1)
