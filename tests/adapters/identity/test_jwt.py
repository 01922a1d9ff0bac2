"""Tokens: everything that is not exactly right is refused with one wording, and what is right comes
back as claims.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.adapters.identity.conftest import AUDIENCE, ISSUER, NOW, HandClock, Keys, by_hand, claims, jwks

from regate_adapters.identity.jwks import JwksFile
from regate_adapters.identity.jwt import JwtVerifier, TokenRules, mint_development_token
from regate_adapters.identity.keys import SharedSecret
from regate_orchestrator.errors import ConfigurationError, Unauthenticated

SECRET = b"a development secret of 32 bytes or more"
ASYMMETRIC = ("RS256", "ES256", "EdDSA")


@pytest.fixture
def verifier(keys: Keys, clock: HandClock, tmp_path: Path) -> JwtVerifier:
    path = tmp_path / "jwks.json"
    path.write_bytes(jwks(keys.rsa, keys.ec, keys.ed))
    rules = TokenRules(ISSUER, AUDIENCE, ASYMMETRIC, leeway_s=0)
    return JwtVerifier(rules, keys=JwksFile(path, algorithms=ASYMMETRIC), clock=clock)


def hs_verifier(clock: HandClock, *, leeway_s: float = 0, cache_s: float = 0) -> JwtVerifier:
    rules = TokenRules(ISSUER, AUDIENCE, ("HS256",), leeway_s=leeway_s, cache_s=cache_s)
    return JwtVerifier(rules, keys=SharedSecret(SECRET, algorithms=("HS256",)), clock=clock)


def hs_token(header: dict[str, Any] | None = None, *, key: bytes = SECRET, **changes: Any) -> str:
    return jwt.PyJWS().encode(json.dumps(claims(**changes)).encode(), key, algorithm="HS256", headers=header)


@pytest.mark.parametrize("kind", ["rsa", "ec", "ed"])
async def test_token_signed_with_a_published_key_is_accepted(
    verifier: JwtVerifier, keys: Keys, kind: str
) -> None:
    assert (await verifier.verify(getattr(keys, kind).token()))["sub"] == "alice"


async def test_development_token_is_accepted_with_all_its_claims(clock: HandClock) -> None:
    token = mint_development_token(
        SECRET, issuer=ISSUER, audience=AUDIENCE, subject="bob", tenant="globex", ttl_s=60,
        teams=["rnd"], roles=["store_admin"], projects=["p"], namespaces=["n"], scopes=["a", "b"],
        clearance=2, clock=clock,
    )  # fmt: skip
    found = await hs_verifier(clock).verify(token)
    expected = {
        "iss": ISSUER, "aud": AUDIENCE, "iat": NOW, "exp": NOW + 60, "sub": "bob", "tenant": "globex",
            "teams": ["rnd"],
        "roles": ["store_admin"], "projects": ["p"], "namespaces": ["n"], "scope": "a b", "clearance": 2,
    }  # fmt: skip
    assert dict(found) == expected


BAD_CLAIMS: dict[str, dict[str, Any]] = {
    "no issuer": {"iss": ...},
    "another issuer": {"iss": "https://idp.example.evil"},
    "issuer as a list": {"iss": [ISSUER]},
    "no audience": {"aud": ...},
    "another audience": {"aud": "regat"},
    "audience as part of a text": {"aud": "regate other"},
    "audience as an object": {"aud": {"regate": True}},
    "audience list with a number": {"aud": ["regate", 1]},
    "empty audience list": {"aud": []},
    "no expiry": {"exp": ...},
    "expiry null": {"exp": None},
    "expiry as text": {"exp": str(NOW + 600)},
    "expiry as boolean": {"exp": True},
    "expiry beyond reason": {"exp": 1e300},
    "expired": {"exp": NOW},
    "not yet valid": {"nbf": NOW + 1},
    "nbf as text": {"nbf": "soon"},
    "issued in the future": {"iat": NOW + 1},
    "iat null": {"iat": None},
    "no subject": {"sub": ...},
    "subject empty": {"sub": ""},
    "subject null": {"sub": None},
    "subject a number": {"sub": 7},
    "subject with a blank": {"sub": "alice smith"},
    "subject a wildcard": {"sub": "*"},
    "subject with a line end": {"sub": "alice\n"},
    "tenant null": {"tenant": None},
    "tenant empty": {"tenant": ""},
    "tenant with a blank": {"tenant": " acme"},
    "tenant a list": {"tenant": ["acme"]},
    "tenant an object": {"tenant": {"id": "acme"}},
    "tenant true": {"tenant": True},
    "tenant a wildcard": {"tenant": "%"},
    "tenant of look-alikes": {"tenant": "аcme"},
    "teams as text": {"teams": "hr"},
    "teams as an object": {"teams": {"hr": True}},
    "teams null": {"teams": None},
    "teams with a number": {"teams": ["hr", 1]},
    "teams with a list": {"teams": [["hr"]]},
    "roles as text": {"roles": "store_admin"},
    "projects as text": {"projects": "p"},
    "namespaces as text": {"namespaces": "n"},
    "scope an object": {"scope": {}},
    "scope list with null": {"scope": [None]},
    "clearance as text": {"clearance": "9"},
    "clearance true": {"clearance": True},
    "clearance a fraction": {"clearance": 1.5},
    "clearance null": {"clearance": None},
}


@pytest.mark.parametrize("changes", BAD_CLAIMS.values(), ids=BAD_CLAIMS.keys())
async def test_signed_token_with_a_bad_claim_is_refused(clock: HandClock, changes: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        await hs_verifier(clock).verify(hs_token(**changes))


def test_table_of_bad_claims_is_not_empty() -> None:
    assert len(BAD_CLAIMS) >= 48


async def test_absent_tenant_is_left_to_the_policy_which_may_read_another_claim(clock: HandClock) -> None:
    assert "tenant" not in await hs_verifier(clock).verify(hs_token(tenant=..., org="acme"))


async def test_leeway_forgives_exactly_the_configured_seconds(clock: HandClock) -> None:
    verifier = hs_verifier(clock, leeway_s=30)
    await verifier.verify(hs_token(exp=NOW - 29, nbf=NOW + 29, iat=NOW + 29))
    with pytest.raises(Unauthenticated):
        await verifier.verify(hs_token(exp=NOW - 30))


BAD_HEADERS: dict[str, dict[str, Any]] = {
    "crit": {"crit": ["b64"]},
    "empty crit": {"crit": []},
    "b64 false": {"b64": False},
    "jku": {"jku": "https://evil.example/jwks"},
    "x5u": {"x5u": "https://evil.example/x"},
    "x5c": {"x5c": ["MII"]},
    "embedded jwk": {"jwk": {"kty": "oct", "k": "AAAA"}},
    "nested": {"cty": "JWT"},
    "encrypted": {"enc": "A256GCM"},
    "compressed": {"zip": "DEF"},
    "PBES2": {"p2c": 2**31, "p2s": "x"},
    "type of another kind": {"typ": "JWE"},
    "type not text": {"typ": 1},
    "kid a number": {"kid": 1},
    "kid an object": {"kid": {}},
    "kid empty": {"kid": ""},
    "kid too long": {"kid": "k" * 129},
    "no algorithm": {"alg": ...},
    "algorithm none": {"alg": "none"},
    "algorithm None": {"alg": "None"},
    "algorithm NONE": {"alg": "NONE"},
    "algorithm null": {"alg": None},
    "algorithm list": {"alg": ["HS256"]},
    "algorithm of another spelling": {"alg": "hs256"},
    "algorithm of another family": {"alg": "RS256"},
    "algorithm not configured": {"alg": "HS512"},
}


@pytest.mark.parametrize("changes", BAD_HEADERS.values(), ids=BAD_HEADERS.keys())
async def test_token_with_a_bad_header_is_refused_although_its_signature_is_right(
    clock: HandClock, changes: dict[str, Any]
) -> None:
    header = {
        name: value for name, value in ({"alg": "HS256", "typ": "JWT"} | changes).items() if value is not ...
    }
    unsigned = by_hand(header, claims()).rpartition(".")[0]
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        unsigned.encode(), SECRET
    )
    token = unsigned + "." + jwt.utils.base64url_encode(signature).decode()
    with pytest.raises(Unauthenticated):
        await hs_verifier(clock).verify(token)


async def test_token_made_by_the_bad_header_recipe_is_accepted_without_a_bad_header(clock: HandClock) -> None:
    unsigned = by_hand({"alg": "HS256", "typ": "JWT", "kid": "any"}, claims()).rpartition(".")[0]
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        unsigned.encode(), SECRET
    )
    found = await hs_verifier(clock).verify(unsigned + "." + jwt.utils.base64url_encode(signature).decode())
    assert found["tenant"] == "acme"


MALFORMED: dict[str, Callable[[str], str]] = {
    "empty": lambda _: "",
    "one part": lambda token: token.split(".")[0],
    "two parts": lambda token: token.rpartition(".")[0],
    "empty signature": lambda token: token.rpartition(".")[0] + ".",
    "five parts, as JWE has": lambda token: token + ".a.b",
    "detached payload": lambda token: token.split(".")[0] + ".." + token.split(".")[2],
    "blank in it": lambda token: token.replace(".", ". ", 1),
    "line end after it": lambda token: token + "\n",
    "not ASCII": lambda token: token + "ü",
    "lone surrogate": lambda token: token + "\ud800",
    "too long": lambda token: token + "A" * 16_384,
    "header not JSON": lambda token: "AAAA." + token.split(".", 1)[1],
    "header an array": lambda token: "W10." + token.split(".", 1)[1],
    "header nested deeply": lambda token: by_hand(json.loads("[" * 900 + "]" * 900), {}),
    "another payload": lambda token: ".".join(
        [token.split(".")[0], by_hand({}, claims(tenant="globex")).split(".")[1], token.split(".")[2]]
    ),
    "last character of the signature changed": lambda token: (
        token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1]
    ),
}


@pytest.mark.parametrize("spoil", MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed_token_is_refused(clock: HandClock, spoil: Callable[[str], str]) -> None:
    with pytest.raises(Unauthenticated):
        await hs_verifier(clock).verify(spoil(hs_token()))


async def test_all_refusals_have_one_wording(clock: HandClock) -> None:
    messages = set()
    for token in (
        hs_token(exp=NOW),
        hs_token(iss="x"),
        hs_token(key=b"x" * 32),
        "rubbish",
        hs_token(tenant=None),
    ):
        with pytest.raises(Unauthenticated) as refused:
            await hs_verifier(clock).verify(token)
        messages.add((refused.value.message, refused.value.code))
    assert len(messages) == 1


async def test_public_key_is_never_a_secret(verifier: JwtVerifier, keys: Keys) -> None:
    pem = keys.rsa.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    unsigned = by_hand({"alg": "HS256", "kid": "rsa-1"}, claims()).rpartition(".")[0]
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(unsigned.encode(), pem)
    with pytest.raises(Unauthenticated):
        await verifier.verify(unsigned + "." + jwt.utils.base64url_encode(signature).decode())


async def test_key_verifies_only_the_algorithm_it_is_for(verifier: JwtVerifier, keys: Keys) -> None:
    with pytest.raises(Unauthenticated):
        await verifier.verify(keys.rsa.token(header={"kid": "ec-1"}))


async def test_key_that_is_not_published_is_refused(verifier: JwtVerifier, keys: Keys) -> None:
    with pytest.raises(Unauthenticated):
        await verifier.verify(keys.other.token(header={"kid": "rsa-1"}))


async def test_cached_verdict_ends_with_the_token(clock: HandClock) -> None:
    verifier, token = hs_verifier(clock, cache_s=300), hs_token(exp=NOW + 10)
    await verifier.verify(token)
    clock.now += 10
    with pytest.raises(Unauthenticated):
        await verifier.verify(token)


async def test_cached_verdict_serves_no_other_token(clock: HandClock) -> None:
    verifier, token = hs_verifier(clock, cache_s=300), hs_token()
    await verifier.verify(token)
    with pytest.raises(Unauthenticated):
        await verifier.verify(token[:-2] + ("BA" if token.endswith("AA") else "AA"))


async def test_cached_verdict_lasts_no_longer_than_its_time_after_the_key_is_gone(
    clock: HandClock, keys: Keys, tmp_path: Path
) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(jwks(keys.rsa))
    rules = TokenRules(ISSUER, AUDIENCE, ("RS256",), leeway_s=0, cache_s=60)
    verifier = JwtVerifier(rules, keys=JwksFile(path, algorithms=("RS256",)), clock=clock)
    token = keys.rsa.token()
    await verifier.verify(token)
    path.write_bytes(jwks(keys.other))
    clock.now += 59
    assert (await verifier.verify(token))["sub"] == "alice"
    clock.now += 1
    with pytest.raises(Unauthenticated):
        await verifier.verify(token)


@pytest.mark.parametrize(
    ("issuer", "audience", "algorithms"),
    [
        ("", AUDIENCE, ("HS256",)),
        (ISSUER, "", ("HS256",)),
        (ISSUER, AUDIENCE, ()),
        (ISSUER, AUDIENCE, ("none",)),
        (ISSUER, AUDIENCE, ("HS256", "RS256")),
    ],
)
def test_unsafe_rules_do_not_start(issuer: str, audience: str, algorithms: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError):
        TokenRules(issuer, audience, algorithms, leeway_s=0)


@pytest.mark.parametrize(
    ("secret", "algorithms"), [(b"x" * 31, ("HS256",)), (b"x" * 63, ("HS512",)), (b"x" * 64, ("RS256",))]
)
def test_short_secret_does_not_start(secret: bytes, algorithms: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError):
        SharedSecret(secret, algorithms=algorithms)


@pytest.mark.parametrize("changes", [{"subject": "two words"}, {"tenant": ""}, {"teams": ["t"] * 10_001}])
def test_token_that_would_be_refused_is_not_minted(changes: dict[str, Any]) -> None:
    named: dict[str, Any] = {"subject": "alice", "tenant": "acme"} | changes
    with pytest.raises(ConfigurationError):
        mint_development_token(SECRET, issuer=ISSUER, audience=AUDIENCE, ttl_s=60, **named)
