"""Reads the addresses that clients and models give, strictly: one spelling for each host, or a refusal.

What a lenient reader makes of `http://2130706433/` or `http://a@b\\c/` differs between libraries, and a check
of one reading does not bind another. So nothing is guessed here, and what is read is written anew. Pure.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from typing import Final, Literal, cast
from urllib.parse import quote

from regate_orchestrator.errors import InvalidRequest

_MAX_LENGTH: Final = 8_192
_PORTS: Final = {"http": 80, "https": 443}
_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[^\]]*\]|[^/?#:\[\]]*)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>[/?][^#]*)?(?:#.*)?",
    re.IGNORECASE,
)
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_FORBIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"})
_SAFE: Final = "/?:@!$&'()*+,;=-._~%[]"
"""What stays as it is in a path and query; an `@` after the first slash names nobody."""


@dataclass(frozen=True, slots=True)
class Url:
    """An address that was read. The host is in its one spelling: in lower case, as ASCII, without a dot at
    its end.
    """

    scheme: Literal["http", "https"]
    host: str
    port: int
    target: str
    """The path and the query, as they are sent."""

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """Return the address that the host is, or None for a name."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.target}"


def read_url(text: str) -> Url:
    """Return the address. Raises `InvalidRequest`, saying what is wrong with it."""
    if len(text) > _MAX_LENGTH:
        raise _invalid(f"it has more than {_MAX_LENGTH} characters")
    if "\\" in text or any(unicodedata.category(character) in _FORBIDDEN for character in text):
        raise _invalid("it holds a backslash, or blanks or control characters; encode them")
    found = _URL.fullmatch(text)
    if found is None:
        raise _invalid("it must begin with http:// or https:// and a host")
    if "@" in found["host"]:
        raise _invalid("it must hold no user name or password")
    scheme = cast("Literal['http', 'https']", found["scheme"].lower())
    port = _PORTS[scheme] if found["port"] is None else int(found["port"])
    if not 0 < port < 65_536:
        raise _invalid("its port is none")
    target = found["target"] or "/"
    if not target.startswith("/"):
        target = f"/{target}"
    return Url(scheme, _host(found["host"]), port, quote(target, safe=_SAFE))


def _host(text: str) -> str:
    if text.startswith("["):
        return _six(text[1:-1])
    host = (text if text.isascii() else _ascii(text)).lower()
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _invalid("its host is no name and no address")
    if not _NUMBER.fullmatch(labels[-1]):
        return host
    try:
        return str(ipaddress.IPv4Address(host))  # four decimal numbers, and no other spelling
    except ValueError:
        raise _invalid("its host is a number; write an address as four decimal numbers") from None


def _six(text: str) -> str:
    try:
        if "%" in text:
            raise ValueError(text)
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise _invalid("its host in brackets is no IPv6 address") from None


def _ascii(text: str) -> str:
    import idna

    try:
        return idna.encode(text, uts46=True).decode("ascii")
    except idna.IDNAError:
        raise _invalid("its host is no name and no address") from None


def _invalid(what: str) -> InvalidRequest:
    return InvalidRequest(f"The address cannot be used: {what}.", code="invalid_url")
