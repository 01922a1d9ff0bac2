"""JWKS files and URLs: good keys outlive failures, unknown key ids cost one fetch per cooldown, and
nothing but a plain answer is read.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from tests.adapters.identity.conftest import HandClock, Keys, jwks

from regate_adapters.identity.jwks import DiscoveredJwks, JwksFile, JwksTimes, JwksUrl, check_jwks_url
from regate_adapters.identity.keys import read_jwks
from regate_orchestrator.errors import ConfigurationError

RS = ("RS256",)
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Issuer:
    """A real HTTP server that plays the identity provider, and can be told to misbehave."""

    url: str = ""
    fetches: int = 0
    document: bytes = b""
    answer: Answer | None = None
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.fetches += 1
        if self.answer is not None:
            return await self.answer(request)
        return web.Response(body=self.document, content_type="application/json")


@pytest.fixture
async def issuer(keys: Keys) -> AsyncIterator[Issuer]:
    issuer = Issuer(document=jwks(keys.rsa))
    app = web.Application()
    app.router.add_get("/{tail:.*}", issuer.handle)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    issuer.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks"
    yield issuer
    issuer.release.set()
    await runner.cleanup()


async def test_key_is_fetched_once_and_then_known(issuer: Issuer, clock: HandClock) -> None:
    async with JwksUrl(issuer.url, algorithms=RS, clock=clock) as source:
        found = [await source.key("rsa-1", algorithm="RS256") for _ in range(3)]
    assert (all(found), issuer.fetches) == (True, 1)


async def test_random_key_ids_cost_one_fetch_per_cooldown(issuer: Issuer, clock: HandClock) -> None:
    async with JwksUrl(issuer.url, algorithms=RS, clock=clock) as source:
        clock.now += 30
        found = await asyncio.gather(
            *(source.key(f"random-{number}", algorithm="RS256") for number in range(50))
        )
        clock.now += 29
        found.append(await source.key("another", algorithm="RS256"))
    assert (set(found), issuer.fetches) == ({None}, 2)


async def test_key_id_that_the_issuer_does_not_have_is_not_asked_for_again_soon(
    issuer: Issuer, clock: HandClock
) -> None:
    times = JwksTimes(cooldown_s=10, negative_s=60)
    async with JwksUrl(issuer.url, algorithms=RS, times=times, clock=clock) as source:
        for _ in range(6):
            clock.now += 10
            await source.key("missing", algorithm="RS256")
    assert issuer.fetches == 2


async def test_rotated_key_is_found_after_the_cooldown(issuer: Issuer, clock: HandClock, keys: Keys) -> None:
    async with JwksUrl(issuer.url, algorithms=RS, clock=clock) as source:
        issuer.document = jwks(keys.rsa, keys.other)
        before = await source.key("rsa-2", algorithm="RS256")
        clock.now += 30
        after = await source.key("rsa-2", algorithm="RS256")
    assert (before, after is not None) == (None, True)


async def test_key_that_the_issuer_withdrew_stops_working_with_the_next_refresh(
    issuer: Issuer, clock: HandClock, keys: Keys
) -> None:
    async with JwksUrl(issuer.url, algorithms=RS, clock=clock) as source:
        issuer.document = jwks(keys.other)
        clock.now += 30
        await source.key("rsa-2", algorithm="RS256")
        assert await source.key("rsa-1", algorithm="RS256") is None


def misbehave_with(**response: Any) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(**response)

    return answer


async def redirect(request: web.Request) -> web.StreamResponse:
    if request.path == "/jwks":
        raise web.HTTPFound("/elsewhere")
    return web.Response(body=jwks({"kty": "oct", "k": "AAAA", "kid": "new"}))


async def cut_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"keys"')
    assert request.transport is not None
    request.transport.abort()
    return response


BAD_ANSWERS: dict[str, Answer] = {
    "500": misbehave_with(status=500),
    "404": misbehave_with(status=404),
    "empty": misbehave_with(body=b""),
    "HTML": misbehave_with(body=b"<html>login</html>", content_type="text/html"),
    "JSON of another kind": misbehave_with(body=b'["keys"]'),
    "no keys": misbehave_with(body=b'{"keys": []}'),
    "keys not a list": misbehave_with(body=b'{"keys": {}}'),
    "symmetric key": misbehave_with(body=jwks({"kty": "oct", "k": "c2VjcmV0", "kid": "new", "alg": "HS256"})),
    "key of another kind": misbehave_with(
        body=jwks({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "new"})
    ),
    "2 MB": misbehave_with(body=b" " * 2_000_000 + b"{}"),
    "compressed": misbehave_with(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"}),
    "redirect": redirect,
    "cut off": cut_off,
}


@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
async def test_bad_answer_never_evicts_good_keys(issuer: Issuer, clock: HandClock, answer: Answer) -> None:
    async with JwksUrl(issuer.url, algorithms=RS, clock=clock) as source:
        issuer.answer = answer
        clock.now += 30
        unknown = await source.key("new", algorithm="RS256")
        known = await source.key("rsa-1", algorithm="RS256")
    assert (unknown, known is not None, issuer.fetches) == (None, True, 2)


async def test_unreachable_issuer_at_start_is_not_ready_and_recovers(
    issuer: Issuer, clock: HandClock
) -> None:
    issuer.answer = misbehave_with(status=503)
    async with JwksUrl(issuer.url, algorithms=RS, clock=clock) as source:
        at_first = source.ready, await source.key("rsa-1", algorithm="RS256")
        issuer.answer = None
        clock.now += 30
        later = await source.key("rsa-1", algorithm="RS256"), source.ready
    assert (at_first, later[0] is not None, later[1]) == ((False, None), True, True)


def stuck(issuer: Issuer, reached: asyncio.Event | None = None) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        if reached is not None:
            reached.set()
        await issuer.release.wait()
        return web.Response()

    return answer


async def test_slow_issuer_costs_known_keys_no_time(issuer: Issuer, clock: HandClock) -> None:
    asked = asyncio.Event()
    async with JwksUrl(issuer.url, algorithms=RS, times=JwksTimes(deadline_s=60), clock=clock) as source:
        issuer.answer = stuck(issuer, asked)
        clock.now += 400
        async with asyncio.timeout(120):
            known = await source.key("rsa-1", algorithm="RS256")
            await asked.wait()
            again = await source.key("rsa-1", algorithm="RS256")
    assert (known is not None, again is not None, issuer.fetches) == (True, True, 2)


async def test_slow_issuer_is_given_up_at_the_deadline(issuer: Issuer, clock: HandClock) -> None:
    issuer.answer = stuck(issuer)
    async with JwksUrl(issuer.url, algorithms=RS, times=JwksTimes(deadline_s=0.4), clock=clock) as source:
        clock.now += 400
        async with asyncio.timeout(120):
            unknown = await source.key("new", algorithm="RS256")
    assert (unknown, source.ready) == (None, False)


async def test_keys_that_nobody_confirmed_for_too_long_are_no_longer_trusted(
    issuer: Issuer, clock: HandClock
) -> None:
    times = JwksTimes(keep_s=3_600)
    async with JwksUrl(issuer.url, algorithms=RS, times=times, clock=clock) as source:
        issuer.answer = misbehave_with(status=500)
        clock.now += 3_601
        assert (await source.key("rsa-1", algorithm="RS256"), source.ready) == (None, False)


async def test_cancelled_caller_does_not_end_the_fetch_of_others(issuer: Issuer, clock: HandClock) -> None:
    entered = asyncio.Event()

    async def slow(_: web.Request) -> web.StreamResponse:
        entered.set()
        await issuer.release.wait()
        return web.Response(body=issuer.document)

    async with JwksUrl(issuer.url, algorithms=RS, clock=clock) as source, asyncio.TaskGroup() as group:
        issuer.answer = slow
        clock.now += 90_000
        leaving = group.create_task(source.key("rsa-1", algorithm="RS256"))
        staying = group.create_task(source.key("rsa-1", algorithm="RS256"))
        await entered.wait()
        leaving.cancel()
        issuer.release.set()
        assert (await staying is not None, issuer.fetches) == (True, 2)


@pytest.mark.parametrize(
    "url",
    ["http://idp.example/jwks", "ftp://idp.example/jwks", "https://user:pw@idp.example/jwks", "https://",
    "file:///etc/passwd", "https://h/#f", "http://127.0.0.1.evil.example/"],
)  # fmt: skip
def test_unsafe_jwks_url_does_not_start(url: str) -> None:
    with pytest.raises(ConfigurationError):
        check_jwks_url(url)


def test_shared_secret_algorithms_do_not_start_with_a_jwks(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        JwksFile(tmp_path / "any", algorithms=("HS256",))


async def test_changed_file_is_read_again_and_a_broken_one_changes_nothing(
    tmp_path: Path, keys: Keys
) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(jwks(keys.rsa))
    source = JwksFile(path, algorithms=RS)
    path.write_bytes(jwks(keys.rsa, keys.other))
    os.utime(path, ns=(1, 1))
    rotated = await source.key("rsa-2", algorithm="RS256")
    path.write_bytes(b"{")
    broken = await source.key("rsa-2", algorithm="RS256")
    path.unlink()
    gone = await source.key("rsa-2", algorithm="RS256")
    assert [key is not None for key in (rotated, broken, gone)] == [True, True, True]


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"keys": [1, null, {}]}'])
def test_file_without_usable_keys_does_not_start(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError):
        JwksFile(path, algorithms=RS)


def unfit(keys: Keys) -> dict[str, dict[str, Any]]:
    weak = RSAAlgorithm.to_jwk(rsa.generate_private_key(65_537, 1_024).public_key(), as_dict=True)
    private = json.loads(RSAAlgorithm.to_jwk(keys.rsa.private))
    good = keys.rsa.public
    return {
        "for encryption": {**good, "use": "enc"},
        "for signing only": {**good, "key_ops": ["sign"]},
        "for another algorithm": {**good, "alg": "RS512"},
        "private": {**private, "kid": "p"},
        "weak": {**weak, "kid": "w"},
        "long kid": {**good, "kid": "k" * 129},
        "kid a number": {**good, "kid": 1},
        "not base64": {**good, "n": "!!"},
        "no modulus": {name: value for name, value in good.items() if name != "n"},
    }


def test_keys_that_do_not_fit_are_left_out(keys: Keys) -> None:
    table = unfit(keys)
    assert len(table) == 9
    for name, entry in table.items():
        with pytest.raises(ValueError, match="no usable key"):
            read_jwks(jwks(entry), algorithms=RS)
        assert len(read_jwks(jwks(entry, keys.other), algorithms=RS)) == 1, name


def test_two_keys_of_one_id_are_no_key(keys: Keys) -> None:
    twin = {**keys.other.public, "kid": "rsa-1"}
    assert read_jwks(jwks(keys.rsa, twin), algorithms=RS).find("rsa-1", algorithm="RS256") is None


def test_token_without_a_key_id_needs_a_single_key(keys: Keys) -> None:
    alone = read_jwks(jwks(keys.rsa), algorithms=RS).find(None, algorithm="RS256")
    among_two = read_jwks(jwks(keys.rsa, keys.other), algorithms=RS).find(None, algorithm="RS256")
    assert (alone is not None, among_two) == (True, None)


def test_key_shows_no_material(keys: Keys) -> None:
    assert "***" in repr(read_jwks(jwks(keys.rsa), algorithms=RS).find("rsa-1", algorithm="RS256"))


# ---------------------------------------------------------------- discovery


def publishing(at: Issuer, **changes: Any) -> Answer:
    """An issuer that publishes where its keys are, and has them there."""
    base = at.url.removesuffix("/jwks")
    said = {"issuer": f"{base}/realm/", "jwks_uri": at.url} | changes

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/realm/.well-known/openid-configuration":
            return web.json_response(said)
        return web.Response(body=at.document)

    return answer


def discovered(issuer: Issuer, clock: HandClock) -> DiscoveredJwks:
    return DiscoveredJwks(issuer.url.removesuffix("jwks") + "realm/", algorithms=RS, clock=clock)


async def test_keys_are_found_where_the_issuer_says_also_after_it_moved_them(
    issuer: Issuer, clock: HandClock, keys: Keys
) -> None:
    issuer.answer = publishing(issuer)
    async with discovered(issuer, clock) as source:
        first = await source.key("rsa-1", algorithm="RS256")
        issuer.answer = publishing(issuer, jwks_uri=issuer.url + "/moved")
        issuer.document = jwks(keys.other)
        clock.now += 30
        moved = await source.key("rsa-2", algorithm="RS256")
    assert (first is not None, moved is not None, source.problem) == (True, True, None)


BAD_CONFIGURATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "another issuer": ({"issuer": "https://idp.example.evil"}, "of another issuer"),
    "no issuer": ({"issuer": None}, "of another issuer"),
    "no keys": ({"jwks_uri": None}, "names no keys"),
    "keys without TLS": ({"jwks_uri": "http://idp.example/jwks"}, "must be https"),
    "keys in a file": ({"jwks_uri": "file:///etc/passwd"}, "must be"),
}


@pytest.mark.parametrize("case", BAD_CONFIGURATIONS)
async def test_issuer_that_publishes_anything_else_gives_no_keys(
    issuer: Issuer, clock: HandClock, case: str
) -> None:
    changes, problem = BAD_CONFIGURATIONS[case]
    issuer.answer = publishing(issuer, **changes)
    async with discovered(issuer, clock) as source:
        assert (source.ready, problem in str(source.problem)) == (False, True)


async def test_issuer_without_the_slash_that_it_was_configured_with_is_another(
    issuer: Issuer, clock: HandClock
) -> None:
    issuer.answer = publishing(issuer, issuer=issuer.url.removesuffix("jwks") + "realm")
    async with discovered(issuer, clock) as source:
        assert (source.ready, source.problem) == (False, "the configuration is of another issuer")


@pytest.mark.parametrize("issuer", ["http://idp.example", "regate-dev", "https://idp.example/?tenant=a"])
def test_issuer_that_cannot_be_asked_safely_does_not_start(issuer: str) -> None:
    with pytest.raises(ConfigurationError, match="issuer must"):
        DiscoveredJwks(issuer, algorithms=RS)
