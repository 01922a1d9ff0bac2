"""API keys that the gateway makes itself: their form, and the provider that verifies them.

A key is `rgk_`, 12 characters that are its id, `_`, and 49 more: a random secret of 256 bits and a checksum,
all in base 62. The checksum refuses a mistyped key without asking the database, and lets scanners of leaked
secrets tell keys from other text; it proves nothing.

What is stored is the SHA-256 digest of the whole key. A slow hash with a salt (bcrypt, scrypt, Argon2) is for
passwords, which can be guessed one after the other; nobody guesses 256 random bits, whatever a guess costs
(NIST SP 800-63B, section 5.1.2.2, sets the bound at 112 bits). A key under the hash (HMAC) would keep nothing
from whoever reads the database that the digest does not keep already, and would be one more secret that all
gateways share.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import string
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn

from regate_adapters.identity.unverified import API_KEY_PREFIX
from regate_adapters.remembering import Remembered
from regate_orchestrator.errors import Unauthenticated
from regate_orchestrator.ports import ApiKeyState
from regate_orchestrator.rows import ApiKeyRow
from regate_orchestrator.values import Clock, Json, JsonObject, wall_clock

_log = logging.getLogger("regate.identity")

_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_CHARACTERS: Final = 12
_SECRET_CHARACTERS: Final = 43
"""62^43 > 2^256."""
_CHECKSUM_CHARACTERS: Final = 6
"""62^6 > 2^32."""
_FORM: Final = re.compile(
    rf"({API_KEY_PREFIX}[0-9A-Za-z]{{{_ID_CHARACTERS}}})_"
    rf"[0-9A-Za-z]{{{_SECRET_CHARACTERS + _CHECKSUM_CHARACTERS}}}"
)
_NOBODYS: Final = "0" * 64
"""What the digest of a key that there is not is compared with."""
_MAX_REMEMBERED: Final = 4_096
_MAX_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made: what is kept of it, and the key itself, which is shown once and kept by
    nobody but its owner.
    """

    row: ApiKeyRow
    key: str = field(repr=False)


def make_key(claims: JsonObject, *, name: str, now: int, expires_at: int | None) -> NewKey:
    """Return a new key that stands for these claims, of which `sub` and `tenant` must be there."""
    identifier = API_KEY_PREFIX + _random(_ID_CHARACTERS)
    text = f"{identifier}_{_random(_SECRET_CHARACTERS)}"
    key = text + _checksum(text)
    return NewKey(ApiKeyRow(identifier, _digest(key), claims, name, now, expires_at), key)


def id_in(presented: str) -> str | None:
    """Return the id of the key, or None for what no key can be: of another form, or mistyped."""
    found = _FORM.fullmatch(presented)
    if found is None or _checksum(presented[:-_CHECKSUM_CHARACTERS]) != presented[-_CHECKSUM_CHARACTERS:]:
        return None
    return found.group(1)


class ApiKeyVerifier:
    """Verifies API keys by what the state store holds.

    A key that held is remembered for `cache_s` seconds, so that a revocation is in force everywhere after
    that time at the latest; 0 asks the store each time. A key's expiry is looked at each time.
    """

    def __init__(self, keys: ApiKeyState, *, cache_s: float, clock: Clock = wall_clock) -> None:
        self._keys = keys
        self._cache_s = cache_s
        self._clock = clock
        self._held: Remembered[str, ApiKeyRow] = Remembered(
            entries=_MAX_REMEMBERED, most_bytes=_MAX_BYTES, clock=clock
        )

    async def verify(self, presented: str) -> Mapping[str, Json]:
        """Return the claims that the key stands for; `jti` is its id. Raises `Unauthenticated`, and
        `StateUnavailable`.
        """
        identifier = id_in(presented)
        if identifier is None:
            _refuse("malformed or mistyped")
        digest = _digest(presented)
        row = self._held.recall(digest)
        if row is None:
            row = await self._found(identifier, digest)
        if row.expires_at is not None and row.expires_at <= self._clock():
            _refuse("expired", identifier)
        expiry: JsonObject = {} if row.expires_at is None else {"exp": row.expires_at}
        return {**row.claims, **expiry, "jti": row.id}

    async def _found(self, identifier: str, digest: str) -> ApiKeyRow:
        row = await self._keys.find(identifier)
        held = hmac.compare_digest(digest, _NOBODYS if row is None else row.digest)
        if row is None or not held:
            _refuse("no such key")
        if row.revoked_at is not None:
            _refuse("revoked", identifier)
        if self._cache_s:
            self._held.remember(digest, row, until=self._clock() + self._cache_s)
        return row


def _refuse(why: str, identifier: str = "") -> NoReturn:
    """Refuse the key. The id goes to the log only of a key that was its owner's."""
    _log.info("API key refused: %s %s", why, identifier)
    raise Unauthenticated.refused()


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("ascii")).hexdigest()


def _random(characters: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(characters))


def _checksum(text: str) -> str:
    """Return the CRC-32 of the text, in base 62."""
    rest, digits = zlib.crc32(text.encode("ascii")), ""
    for _ in range(_CHECKSUM_CHARACTERS):
        rest, digit = divmod(rest, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
