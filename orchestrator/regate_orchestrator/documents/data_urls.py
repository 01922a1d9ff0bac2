"""Data URLs (RFC 2397): a media type with parameters, and data in base64 or percent-encoded. Pure;
what the data is for is `file_text.py`'s.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

_WORD: Final = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # of RFC 2045; with the `%` that encodes what is none
_HEAD: Final = re.compile(
    (
        rf"data:(?P<type>{_WORD}/{_WORD})?(?P<parameters>(?:;{_WORD}=(?:{_WORD}"
        rf'|"[^"\x00-\x1f]*"))*)(?P<base64>;base64)?,'
    ),
    re.IGNORECASE,
)
_PARAMETER: Final = re.compile(rf';({_WORD})=({_WORD}|"[^"]*")')
_MAX_HEAD: Final = 1_024
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_PERCENT: Final = re.compile(r"[^%\x00-\x1f\x7f]*(?:%[0-9A-Fa-f]{2}[^%\x00-\x1f\x7f]*)*")


@dataclass(frozen=True, slots=True)
class DataUrl:
    """A data URL, taken apart and not decoded yet. The media type is in lower case, and empty where
    none is named.
    """

    media_type: str
    charset: str | None
    is_base64: bool
    encoded: str

    @property
    def least_bytes(self) -> int:
        """How many bytes the data has at least, known before anything is decoded."""
        if not self.is_base64:
            return len(self.encoded) // 3
        return (len(self.encoded) if "%" not in self.encoded else len(self.encoded) // 3) // 4 * 3 - 2

    def data(self) -> bytes:
        """Return the bytes. Raises `ValueError` for base64 that is none."""
        plain = (
            unquote(self.encoded, errors="strict") if self.is_base64 and "%" in self.encoded else self.encoded
        )
        try:
            return (
                base64.b64decode(plain, validate=True) if self.is_base64 else unquote_to_bytes(self.encoded)
            )
        except binascii.Error as error:
            raise ValueError("not base64") from error


def is_data_url(value: str) -> bool:
    """Return whether the address is of this scheme, well-formed or not."""
    return value[:5].lower() == "data:"


def parse(value: str) -> DataUrl | None:
    """Return the data URL, or None for what is none, its head too long, or its data not encoded as its
    head says.
    """
    head = _HEAD.match(value[:_MAX_HEAD])
    if head is None:
        return None
    is_base64, encoded = head["base64"] is not None, value[head.end() :]
    if not (_BASE64 if is_base64 and "%" not in encoded else _PERCENT).fullmatch(encoded):
        return None
    parameters = {
        name.lower(): unquote(text.strip('"')) for name, text in _PARAMETER.findall(head["parameters"])
    }
    return DataUrl((head["type"] or "").lower(), parameters.get("charset"), is_base64, encoded)


def bare_base64(value: str) -> DataUrl | None:
    """Return base64 without any head as the data URL that it stands for, or None for what is no base64."""
    return DataUrl("", None, True, value) if _BASE64.fullmatch(value) else None
