"""Client certificates: what one says, and which of its names is the caller."""

from __future__ import annotations

import base64
import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.adapters.identity.conftest import HandClock
from tests.certificates import Authority, Issued

from regate_adapters.identity.certificates import CertificateRules, CertificateVerifier, read_certificate
from regate_orchestrator.errors import Unauthenticated

SPIFFE = "spiffe://prod.example/ns/team-a/sa/crawler"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def at(issued: Issued, **rules: Any) -> CertificateVerifier:
    """A verifier, a day before the certificate expires."""
    given: dict[str, Any] = {"subject": "spiffe_id", "tenant": "acme", "tenant_from": None}
    clock = HandClock(issued.certificate.not_valid_after_utc.timestamp() - 86_400)
    return CertificateVerifier(CertificateRules(**(given | rules)), clock=clock)


async def test_certificate_becomes_claims_with_all_that_it_says(authority: Authority) -> None:
    issued = authority.client(
        "crawler", uris=[SPIFFE], dns=["crawler.acme"], emails=["ops@acme.example"], organizations=["acme"]
    )
    digest = hashlib.sha256(issued.certificate.public_bytes(Encoding.DER)).digest()
    expiry = int(issued.certificate.not_valid_after_utc.timestamp())
    assert await at(issued).verify(issued.pem) == {
        "sub": SPIFFE,
        "tenant": "acme",
        "exp": expiry,
        "jti": digest.hex(),
        "subject": "CN=crawler,O=acme",
        "issuer": "CN=authority",
        "serial": f"{issued.certificate.serial_number:x}",
        "common_names": ["crawler"],
        "organizations": ["acme"],
        "organizational_units": [],
        "uris": [SPIFFE],
        "dns_names": ["crawler.acme"],
        "emails": ["ops@acme.example"],
        "not_after": expiry,
        "sha256": digest.hex(),
        "x5t#S256": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
    }


NAMED: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, str | None] | None]] = {
    "by DNS name": ({"dns": ["a.acme"]}, {"subject": "dns_name"}, ("a.acme", "acme")),
    "by e-mail address": ({"emails": ["a@acme"]}, {"subject": "email"}, ("a@acme", "acme")),
    "by common name": ({}, {"subject": "common_name"}, ("client", "acme")),
    "tenant by trust domain": (
        {"uris": [SPIFFE]},
        {"tenant": None, "tenant_from": "trust_domain"},
        (SPIFFE, "prod.example"),
    ),
    "tenant by organization": (
        {"uris": [SPIFFE], "organizations": ["globex"]},
        {"tenant": None, "tenant_from": "organization"},
        (SPIFFE, "globex"),
    ),
    "two organizations": (
        {"uris": [SPIFFE], "organizations": ["globex", "acme"]},
        {"tenant": None, "tenant_from": "organization"},
        (SPIFFE, None),
    ),
    "no organization": ({"uris": [SPIFFE]}, {"tenant": None, "tenant_from": "organization"}, (SPIFFE, None)),
    "two SPIFFE ids": ({"uris": [SPIFFE, SPIFFE + "2"]}, {}, None),
    "a URI of another kind": ({"uris": ["https://prod.example/a"]}, {}, None),
    "two DNS names": ({"dns": ["a.acme", "b.acme"]}, {"subject": "dns_name"}, None),
    "no name of the kind, but others": ({"dns": ["a.acme"]}, {"subject": "email"}, None),
    "no names at all": ({}, {}, None),
}


@pytest.mark.parametrize("case", NAMED)
async def test_exactly_one_name_of_the_kind_is_the_caller(authority: Authority, case: str) -> None:
    said, rules, expected = NAMED[case]
    issued = authority.client(**said)
    try:
        claims = await at(issued, **rules).verify(issued.pem)
        found = (claims["sub"], claims.get("tenant"))
    except Unauthenticated:
        found = None
    assert found == expected


async def test_certificate_that_expires_on_an_open_connection_is_refused(authority: Authority) -> None:
    issued = authority.client(uris=[SPIFFE], lasting=timedelta(hours=1))
    clock = HandClock(issued.certificate.not_valid_after_utc.timestamp() - 1)
    verifier = CertificateVerifier(CertificateRules("spiffe_id", "acme", None), clock=clock)
    await verifier.verify(issued.pem)
    clock.now += 1
    with pytest.raises(Unauthenticated):
        await verifier.verify(issued.pem)


@pytest.mark.parametrize("pem", ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_says_nothing(pem: str) -> None:
    assert read_certificate(pem) is None
