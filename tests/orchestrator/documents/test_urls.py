"""An address has one reading: what could be read in two ways is refused."""

from __future__ import annotations

from ipaddress import ip_address

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regate_orchestrator.documents.urls import read_url
from regate_orchestrator.errors import InvalidRequest

READ = {
    "https://example.com": ("https", "example.com", 443, "/"),
    "HTTPS://Example.COM/A?q=1#part": ("https", "example.com", 443, "/A?q=1"),
    "http://example.com:8080/x": ("http", "example.com", 8080, "/x"),
    "http://example.com?q": ("http", "example.com", 80, "/?q"),
    "https://xn--bcher-kva.example/": ("https", "xn--bcher-kva.example", 443, "/"),
    "https://bücher.example/": ("https", "xn--bcher-kva.example", 443, "/"),
    "https://BÜCHER。example/": ("https", "xn--bcher-kva.example", 443, "/"),
    "https://example.com/Käse/a@b": ("https", "example.com", 443, "/K%C3%A4se/a@b"),
    "https://example.com/a%2Fb": ("https", "example.com", 443, "/a%2Fb"),
    "http://8.8.8.8/": ("http", "8.8.8.8", 80, "/"),
    "http://[2606:4700:0:0:0:0:0:1111]/": ("http", "2606:4700::1111", 80, "/"),
    "http://[::FFFF:127.0.0.1]/": ("http", str(ip_address("::ffff:127.0.0.1")), 80, "/"),
    "http://my_host/": ("http", "my_host", 80, "/"),
}
REFUSED = (
    "",
    "example.com",
    "//example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "javascript:alert(1)",
    "https:/example.com",
    "https:///x",
    "https://:443/",
    "https://user@example.com/",
    "https://user:secret@example.com/",
    "https://example.com\\@evil.com/",
    "https://evil.com\\.example.com/",
    "https://example.com:/",
    "https://example.com:0/",
    "https://example.com:65536/",
    "https://example.com:443443443/",
    "https://example.com:+80/",
    "https://exa mple.com/",
    "https://example.com/a b",
    " https://example.com/",
    "https://example.com/\n",
    "https://exam\tple.com/",
    "https://example.com/\x00",
    "https://example.com/\x7f",
    "https://example.com/\u200b",
    "https://exam\u00adple.com/",
    "https://example.com/\u2028",
    "https://example.com./",
    "https://.example.com/",
    "https://a..b/",
    "https://-a.com/",
    "https://a%2ecom/",
    "https://%31%32%37.0.0.1/",
    "https://*.example.com/",
    "https://" + "a" * 64 + ".com/",
    "https://" + "a." * 130 + "com/",
    "https://example.com/" + "a" * 9_000,
    # numbers that are addresses to some
    "http://2130706433/",
    "http://017700000001/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://0177.0.0.1/",
    "http://127.0.0.01/",
    "http://127.0.0.1./",
    "http://127.0.0.0x1/",
    "http://256.0.0.1/",
    "http://1.2.3.4.5/",
    "http://example.1/",
    "http://0x/",
    "http://[127.0.0.1]/",
    "http://[fe80::1%eth0]/",
    "http://[fe80::1%25eth0]/",
    "http://[::1/",
    "http://::1/",
    "http://[::1]x/",
    "http://[v1.x]/",
    "http://[]/",
    "http://[::ffff:0177.0.0.1]/",
)


@pytest.mark.parametrize(("text", "expected"), READ.items())
def test_an_address_is_read_in_its_one_spelling(text: str, expected: tuple[str, str, int, str]) -> None:
    url = read_url(text)

    assert (url.scheme, url.host, url.port, url.target) == expected


@pytest.mark.parametrize("text", REFUSED)
def test_what_has_two_readings_or_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_url(text)

    assert refused.value.code == "invalid_url"


@pytest.mark.parametrize("text", ["http://１２７.0.0.1/", "http://127。0。0。1/", "http://①②⑦.0.0.1/"])
def test_digits_of_other_scripts_are_the_address_that_they_mean_or_none(text: str) -> None:
    try:
        found = read_url(text).host
    except InvalidRequest:
        return
    assert found == "127.0.0.1"


@pytest.mark.parametrize("text", [*READ, "https://example.com/{x}|\"<>^`'()[]!~*;,=&?a=/?:@#f"])
def test_the_client_that_connects_reads_the_same_place(text: str) -> None:
    url = read_url(text)
    read = httpx2.URL(str(url))

    assert (read.scheme, read.raw_host.decode(), read.port or {"http": 80, "https": 443}[read.scheme]) == (
        url.scheme,
        url.host,
        url.port,
    )


@given(st.text(max_size=40), st.sampled_from(["http://", "https://", "http://[", "http://a@", "https://1."]))
def test_whatever_is_read_is_read_alike_by_the_client_that_connects(text: str, start: str) -> None:
    try:
        url = read_url(start + text)
    except InvalidRequest:
        return
    read = httpx2.URL(str(url))

    assert (read.raw_host.decode(), read.userinfo) == (url.host, b"")
    assert read_url(str(url)) == url
