"""Verification keys: which key may verify which algorithm, and reading them from a JWKS document.

Not where documents come from (`jwks.py`) and not what a token must claim (`jwt.py`, the counterpart).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from regate_orchestrator.errors import ConfigurationError

_log = logging.getLogger("regate.identity")

_HMAC: Final = ("HS256", "HS384", "HS512")
_KEY_SHAPE: Final[Mapping[str, tuple[str, str | None]]] = {
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "RS512": ("RSA", None),
    "PS256": ("RSA", None),
    "PS384": ("RSA", None),
    "PS512": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""Each asymmetric algorithm and the one kind of key (type, curve) that may verify it."""

MAX_KID_CHARACTERS: Final = 128
_MAX_KEYS: Final = 100
_MIN_SECRET_BYTES: Final = 32
_MIN_RSA_BITS: Final = 2048


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One key and the algorithms it may verify. Its repr shows no key material."""

    kid: str | None
    algorithms: tuple[str, ...]
    material: Any

    def __repr__(self) -> str:
        return f"VerificationKey(kid={self.kid!r}, algorithms={self.algorithms!r}, material=***)"


class KeySource(Protocol):
    """Where keys come from. Looking a key up must never depend on anything in a token but its `kid`."""

    async def key(self, kid: str | None, *, algorithm: str) -> VerificationKey | None:
        """Return the one key with this id for this algorithm; None when there is none, or more than one.

        Without an id there must be exactly one key for the algorithm.
        """
        ...

    @property
    def ready(self) -> bool:
        """Whether any key is at hand; readiness asks."""
        ...


class SharedSecret:
    """The one HMAC secret, for development and for issuers that share a secret with the gateway."""

    def __init__(self, secret: bytes, *, algorithms: Sequence[str]) -> None:
        if len(secret) < _MIN_SECRET_BYTES:
            raise ConfigurationError(f"the shared secret must have at least {_MIN_SECRET_BYTES} bytes")
        if not is_hmac(algorithms):
            raise ConfigurationError("algorithms: a shared secret verifies HS256, HS384 or HS512 only")
        if len(secret) < max(int(algorithm[2:]) // 8 for algorithm in algorithms):
            raise ConfigurationError("the shared secret is shorter than the hash of a configured algorithm")
        self._key = VerificationKey(None, tuple(algorithms), secret)

    async def key(self, kid: str | None, *, algorithm: str) -> VerificationKey | None:
        """Return the secret; its issuer may name it as it likes."""
        del kid
        return self._key if algorithm in self._key.algorithms else None

    @property
    def ready(self) -> bool:
        """A secret is always at hand."""
        return True


def check_algorithms(algorithms: Sequence[str]) -> None:
    """Raise `ConfigurationError` unless these are known algorithms of one family: HMAC and public keys
    are never mixed.
    """
    unknown = [name for name in algorithms if name not in _HMAC and name not in _KEY_SHAPE]
    if unknown or not algorithms:
        raise ConfigurationError(
            f"algorithms: {unknown or 'empty'}; choose from {', '.join([*_HMAC, *_KEY_SHAPE])}"
        )
    if any(name in _HMAC for name in algorithms) and not is_hmac(algorithms):
        raise ConfigurationError("algorithms: HS algorithms must not be mixed with RS, PS, ES or EdDSA")


def is_hmac(algorithms: Sequence[str]) -> bool:
    """Return whether all of these algorithms verify with a shared secret."""
    return bool(algorithms) and all(name in _HMAC for name in algorithms)


class KeySet:
    """The usable keys of one JWKS document, by id. Immutable: a refresh replaces the whole set or nothing."""

    def __init__(self, keys: Sequence[VerificationKey]) -> None:
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, kid: str | None, *, algorithm: str) -> VerificationKey | None:
        """Return the one matching key; None when there is none, or when the choice would be a guess."""
        fitting = [
            key for key in self._keys if algorithm in key.algorithms and (kid is None or key.kid == kid)
        ]
        return fitting[0] if len(fitting) == 1 else None


def read_jwks(document: bytes, *, algorithms: Sequence[str]) -> KeySet:
    """Return the keys of a JWKS document that can verify one of these algorithms. Raises `ValueError` when
    there is none.

    Keys that do not fit (symmetric, private, for encryption, weak, of another kind) are left out, with a log
    line each.
    """
    try:
        parsed = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise ValueError("the document is not JSON") from error
    entries = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(entries, list) or len(entries) > _MAX_KEYS:
        raise ValueError(f"the document is not a JWKS with at most {_MAX_KEYS} keys")
    found: list[VerificationKey] = []
    for index, entry in enumerate(entries):
        try:
            found.append(_read_key(entry, algorithms))
        except (ValueError, TypeError, jwt.PyJWTError) as error:
            _log.warning(
                "JWKS key %d is not usable (%s)",
                index,
                type(error).__name__ if isinstance(error, jwt.PyJWTError) else error,
            )
    if not found:
        raise ValueError("the document holds no usable key")
    return KeySet(found)


def _read_key(entry: object, configured: Sequence[str]) -> VerificationKey:
    if not isinstance(entry, dict):
        raise TypeError("not an object")
    kid, operations = entry.get("kid"), entry.get("key_ops")
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID_CHARACTERS):
        raise ValueError("its kid is not a short string")
    if entry.get("use", "sig") != "sig" or (operations is not None and "verify" not in operations):
        raise ValueError("not for verifying signatures")
    if "d" in entry:
        raise ValueError("it is a private key")
    fitting = tuple(name for name in configured if _fits(entry, name))
    if not fitting:
        raise ValueError("of no configured algorithm")
    material = jwt.PyJWK.from_dict(entry, algorithm=fitting[0]).key
    if isinstance(material, RSAPublicKey) and material.key_size < _MIN_RSA_BITS:
        raise ValueError(f"an RSA key of fewer than {_MIN_RSA_BITS} bits")
    return VerificationKey(kid, fitting, material)


def _fits(entry: Mapping[str, object], algorithm: str) -> bool:
    shape = _KEY_SHAPE.get(algorithm)
    if shape is None or entry.get("alg", algorithm) != algorithm:
        return False
    key_type, curve = shape
    return entry.get("kty") == key_type and (curve is None or entry.get("crv") == curve)
