"""Client certificates: what one says, and the provider for callers that present one and no token.

The server verified the certificate against the operator's authorities before (`listen.tls.client_ca`): its
chain, its purpose and its times. Here it is read, and one of its names becomes the caller. Revocation lists
are not asked: certificates are to be short-lived, and the policy may deny one by name or number.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, NoReturn, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from regate_orchestrator.errors import Unauthenticated
from regate_orchestrator.values import Clock, Json, wall_clock

_log = logging.getLogger("regate.identity")

Subject: TypeAlias = Literal["spiffe_id", "dns_name", "email", "common_name"]
TenantSource: TypeAlias = Literal["organization", "trust_domain"]

_SPIFFE: Final = "spiffe://"
_MEMBER: Final[Mapping[Subject, str]] = {
    "spiffe_id": "uris",
    "dns_name": "dns_names",
    "email": "emails",
    "common_name": "common_names",
}


@dataclass(frozen=True, slots=True)
class CertificateRules:
    """Which name of a certificate is the caller's, and whose tenant: a fixed one, or by a name as well."""

    subject: Subject
    tenant: str | None
    tenant_from: TenantSource | None


class CertificateVerifier:
    """Makes claims of a verified certificate."""

    def __init__(self, rules: CertificateRules, *, clock: Clock = wall_clock) -> None:
        self._rules = rules
        self._clock = clock

    async def verify(self, presented: str) -> Mapping[str, Json]:
        """Return the claims of a certificate that the server verified; `jti` is its SHA-256 fingerprint.
        Raises `Unauthenticated` for one that has expired since, or has not exactly one name of the kind that
        is asked for.
        """
        said = read_certificate(presented)
        if said is None:
            _refuse("it cannot be read")
        if said["not_after"] <= self._clock():
            _refuse("expired")
        names = said[_MEMBER[self._rules.subject]]
        if len(names) != 1 or (self._rules.subject == "spiffe_id" and not names[0].startswith(_SPIFFE)):
            _refuse(f"not exactly one {self._rules.subject}")
        claims = {**said, "sub": names[0], "exp": said["not_after"], "jti": said["sha256"]}
        if (tenant := self._tenant(said)) is not None:
            claims["tenant"] = tenant  # without one, the policy makes no principal
        return claims

    def _tenant(self, said: Mapping[str, Any]) -> str | None:
        match self._rules.tenant_from:
            case None:
                return self._rules.tenant
            case "organization":
                names = said["organizations"]
            case "trust_domain":
                names = [
                    uri.removeprefix(_SPIFFE).partition("/")[0]
                    for uri in said["uris"]
                    if uri.startswith(_SPIFFE)
                ]
        return str(names[0]) if len(names) == 1 else None


@lru_cache(maxsize=1_024)
def read_certificate(pem: str) -> Mapping[str, Any] | None:
    """Return what a certificate says, as policies see it, or None for what cannot be read. Must not be
    altered: it is remembered by the whole certificate.

    `sha256` is the fingerprint in hexadecimal digits; `x5t#S256` is the same as tokens have it that are bound
    to a certificate (RFC 8705, section 3.1).
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode("ascii"))
        digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
        names = _alternative_names(certificate)
        return {
            "subject": certificate.subject.rfc4514_string(),
            "issuer": certificate.issuer.rfc4514_string(),
            "serial": f"{certificate.serial_number:x}",
            "common_names": _parts(certificate.subject, NameOID.COMMON_NAME),
            "organizations": _parts(certificate.subject, NameOID.ORGANIZATION_NAME),
            "organizational_units": _parts(certificate.subject, NameOID.ORGANIZATIONAL_UNIT_NAME),
            "uris": names[0],
            "dns_names": names[1],
            "emails": names[2],
            "not_after": int(certificate.not_valid_after_utc.timestamp()),
            "sha256": digest.hex(),
            "x5t#S256": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        }
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None


def _alternative_names(certificate: x509.Certificate) -> tuple[list[str], list[str], list[str]]:
    """Return the URIs, DNS names and e-mail addresses that the certificate is for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return [], [], []
    return (
        found.get_values_for_type(x509.UniformResourceIdentifier),
        found.get_values_for_type(x509.DNSName),
        found.get_values_for_type(x509.RFC822Name),
    )


def _parts(name: x509.Name, kind: ObjectIdentifier) -> Sequence[str]:
    return [str(part.value) for part in name.get_attributes_for_oid(kind)]


def _refuse(why: str) -> NoReturn:
    _log.info("client certificate refused: %s", why)
    raise Unauthenticated.refused()
