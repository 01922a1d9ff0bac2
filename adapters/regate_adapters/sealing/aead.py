"""AES-256-GCM as the loop's `Sealer`. Not what is sealed, nor for whom
(`regate_orchestrator.responses.context.sealing`), and not where the secret is.

A sealed text is base64url of `1 | nonce (12) | ciphertext and tag`; the purpose is authenticated data, so a
text sealed for one tenant, model or kind of item opens for no other (NIST SP 800-38D; random nonces are good
for 2^32 texts a key).
"""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import Final, cast

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from regate_orchestrator.values import Json, JsonObject

_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32


class AeadSealer:
    """Seals under a key derived from the deployment's secret."""

    def __init__(self, secret: bytes) -> None:
        derivation = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=b"regate encrypted_content")
        self._cipher = AESGCM(derivation.derive(secret))

    def seal(self, payload: JsonObject, *, purpose: str) -> str:
        """Return the payload as text that only `unseal` with the same purpose can read."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, orjson.dumps(payload, default=_plain), purpose.encode())
        return base64.urlsafe_b64encode(_VERSION + nonce + sealed).decode("ascii")

    def unseal(self, sealed: str, *, purpose: str) -> Json:
        """Return the payload; None for whatever was not sealed under this secret for this purpose."""
        try:
            raw = base64.b64decode(sealed.encode("ascii"), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            return None
        if raw[:1] != _VERSION:
            return None
        nonce, text = raw[1 : 1 + _NONCE_BYTES], raw[1 + _NONCE_BYTES :]
        try:
            return cast("Json", orjson.loads(self._cipher.decrypt(nonce, text, purpose.encode())))
        except (InvalidTag, ValueError):
            return None


def _plain(value: object) -> object:
    """Return mappings and sequences of other kinds as those that JSON has."""
    # JSON has no third kind
    return dict(value) if hasattr(value, "keys") else list(value)  # type: ignore[call-overload]
