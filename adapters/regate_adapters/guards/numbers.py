"""Numbers of payment cards and bank accounts, told from other numbers by their check digits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_DIGITS: Final = re.compile(r"[0-9][0-9 -]{11,}")
_GROUP: Final = re.compile(r"[0-9]+")
_CARD: Final = re.compile(
    r"(?:4\d{12}(?:\d{3}){0,2}"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|3(?:0[0-5]|[68]\d)\d{11}"  # Diners Club
    r"|(?:6011|65\d\d|64[4-9]\d)\d{12}(?:\d{3})?"  # Discover
    r"|35(?:2[89]|[3-8]\d)\d{12}"  # JCB
    r"|62\d{14}(?:\d{3})?)"  # UnionPay
)
_LONGEST_CARD: Final = 19
_SHORTEST_GROUP: Final = 3
_ACCOUNT: Final = re.compile(r"[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")


def cards(text: str) -> Iterator[tuple[int, int]]:
    """Yield the places of card numbers, in groups or not, also beside further numbers."""
    for match in _DIGITS.finditer(text):
        groups = [group.span() for group in _GROUP.finditer(text, match.start(), match.end())]
        first = 0
        while first < len(groups):
            last = _card_from(text, groups, first)
            if last is None:
                first += 1
            else:
                yield groups[first][0], groups[last][1]
                first = last + 1


def accounts(text: str) -> Iterator[tuple[int, int]]:
    """Yield the places of international bank account numbers."""
    for match in _ACCOUNT.finditer(text):
        number = match[0].replace(" ", "")
        follows_a_word = match.start() > 0 and text[match.start() - 1].isalnum()
        if not follows_a_word and len(number) <= 34 and _remainder(number) == 1:
            yield match.span()


def _card_from(text: str, groups: list[tuple[int, int]], first: int) -> int | None:
    """Return the last of the groups that make a card number from the first on."""
    number = ""
    for place in range(first, len(groups)):
        start, end = groups[place]
        is_apart = place > first and start - groups[place - 1][1] > 1
        if is_apart or end - start < _SHORTEST_GROUP or len(number) + end - start > _LONGEST_CARD:
            return None
        number += text[start:end]
        if _CARD.fullmatch(number) and _has_check_digit(number):
            return place
    return None


def _has_check_digit(number: str) -> bool:
    """Return whether the last digit is that of Luhn's formula."""
    doubled = (2 * int(digit) for digit in number[-2::-2])
    return (sum(map(int, number[-1::-2])) + sum(one - 9 if one > 9 else one for one in doubled)) % 10 == 0


def _remainder(number: str) -> int:
    """Return the remainder of ISO 7064, which is 1 for a number without a slip."""
    return int("".join(str(int(one, 36)) for one in number[4:] + number[:4])) % 97
