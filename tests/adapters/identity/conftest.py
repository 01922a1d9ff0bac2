"""Keys and tokens for the identity tests: real key pairs, signed with the library and, where a form is
forbidden, by hand.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

NOW = 1_800_000_000.0
ISSUER, AUDIENCE = "https://idp.example", "regate"


@dataclass
class HandClock:
    """A clock that moves only when told to."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Pair:
    kid: str
    algorithm: str
    private: Any
    public: dict[str, Any]

    def token(
        self, *, header: Mapping[str, Any] | None = None, algorithm: str | None = None, **changes: Any
    ) -> str:
        headers = {"kid": self.kid, **(header or {})}
        payload = json.dumps(claims(**changes)).encode()
        return jwt.PyJWS().encode(
            payload, self.private, algorithm=algorithm or self.algorithm, headers=headers
        )


@dataclass
class Keys:
    rsa: Pair
    ec: Pair
    ed: Pair
    other: Pair
    pairs: list[Pair] = field(default_factory=list)


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a good token; a change to `...` leaves the claim out."""
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "exp": NOW + 600,
        "iat": NOW,
        "sub": "alice",
        "tenant": "acme",
        "teams": ["hr"],
    }
    return {name: value for name, value in (good | changes).items() if value is not ...}


def by_hand(header: Any, payload: Any, signature: bytes = b"signature") -> str:
    """A compact token of any content, signed by nobody."""
    parts = [json.dumps(header).encode(), json.dumps(payload).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def jwks(*pairs: Pair | Mapping[str, Any]) -> bytes:
    return json.dumps({"keys": [pair.public if isinstance(pair, Pair) else pair for pair in pairs]}).encode()


def _pair(kid: str, algorithm: str, private: Any, to_jwk: Any) -> Pair:
    return Pair(
        kid,
        algorithm,
        private,
        {**to_jwk(private.public_key(), as_dict=True), "kid": kid, "use": "sig", "alg": algorithm},
    )


@pytest.fixture(scope="session")
def keys() -> Keys:
    def new_rsa() -> Any:
        return rsa.generate_private_key(65_537, 2_048)

    return Keys(
        rsa=_pair("rsa-1", "RS256", new_rsa(), RSAAlgorithm.to_jwk),
        ec=_pair("ec-1", "ES256", ec.generate_private_key(ec.SECP256R1()), ECAlgorithm.to_jwk),
        ed=_pair("ed-1", "EdDSA", ed25519.Ed25519PrivateKey.generate(), OKPAlgorithm.to_jwk),
        other=_pair("rsa-2", "RS256", new_rsa(), RSAAlgorithm.to_jwk),
    )


@pytest.fixture
def clock() -> HandClock:
    return HandClock()
