"""The Ed25519 keys that sign checkpoints and verify them. Not what is signed (`checkpoints.py`)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from regate_orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")
_ID_DIGITS: Final = 16
_FORMS: Final = "write an Ed25519 key in PEM (openssl genpkey -algorithm ed25519), or its 32 bytes in base64"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that signatures are verified with. `id` is the beginning of the digest of its 32 bytes."""

    id: str
    _key: Ed25519PublicKey

    @classmethod
    def of(cls, key: Ed25519PublicKey) -> Self:
        """Return the key with its id."""
        return cls(hashlib.sha256(key.public_bytes_raw()).hexdigest()[:_ID_DIGITS], key)

    def verifies(self, signature: bytes, statement: bytes) -> bool:
        """Return whether the signature is this key's, over exactly this statement."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(signature, statement)
        except InvalidSignature:
            return False
        return True

    @property
    def pem(self) -> str:
        """Return the key as others read it."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


class SigningKey:
    """A key that signs. It shows nothing of itself but its public half."""

    __slots__ = ("_key", "public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey.of(key.public_key())

    def __reduce__(self) -> str:
        raise TypeError("a signing key is not written anywhere")

    def sign(self, statement: bytes) -> bytes:
        """Return the signature over the statement."""
        return self._key.sign(statement)


def read_signing_key(text: str, *, setting: str) -> SigningKey:
    """Return the key in the text: PEM, or 32 bytes in base64 or hex. Raises `ConfigurationError`, which names
    the setting and never the text.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = (
            load_pem_private_key(text.encode(), password=None)
            if "-----BEGIN" in text
            else Ed25519PrivateKey.from_private_bytes(_raw(text))
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(f"{setting}: this is no signing key; {_FORMS}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{setting}: the key is not an Ed25519 key; {_FORMS}")
    return SigningKey(key)


def read_public_key(text: str, *, setting: str) -> PublicKey:
    """Return the public key in the text: PEM, or 32 bytes in base64 or hex. Raises `ConfigurationError`."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = (
            load_pem_public_key(text.encode())
            if "-----BEGIN" in text
            else Ed25519PublicKey.from_public_bytes(_raw(text))
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(
            f"{setting}: this is no public key; give the file that regate audit key wrote"
        ) from None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigurationError(f"{setting}: the key is not an Ed25519 key")
    return PublicKey.of(key)


def _raw(text: str) -> bytes:
    """Return the bytes that the text spells. Raises `ValueError`."""
    word = text.strip()
    if _HEX.fullmatch(word):
        return bytes.fromhex(word)
    try:
        return base64.b64decode(word, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
