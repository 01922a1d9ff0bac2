"""An issuer of RS256 tokens for the gateway that is measured. Not a benchmark of its own."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

_ISSUER: Final = "regate-bench"
_AUDIENCE: Final = "regate"


class Issuer:
    """Has a key of 2048 bits, which the gateway is told of in a file."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        self._folder = tempfile.TemporaryDirectory(prefix="regate-issuer-")
        public = json.loads(RSAAlgorithm.to_jwk(self._key.public_key()))
        keys = {"keys": [{**public, "kid": "bench", "use": "sig", "alg": "RS256"}]}
        self._file = Path(self._folder.name) / "jwks.json"
        self._file.write_text(json.dumps(keys), encoding="utf-8")

    def settings(self) -> dict[str, Any]:
        """Return the gateway's settings of identity."""
        return {
            "auth": {
                "jwt": {
                    "issuer": _ISSUER,
                    "audience": _AUDIENCE,
                    "algorithms": ["RS256"],
                    "jwks_file": str(self._file),
                }
            }
        }

    def token(self, subject: str, tenant: str) -> str:
        """Return a token that is valid for a day."""
        now = int(time.time())
        claims = {"iss": _ISSUER, "aud": _AUDIENCE, "sub": subject, "tenant": tenant, "iat": now}
        return jwt.encode({**claims, "exp": now + 86_400}, self._key, "RS256", headers={"kid": "bench"})
