"""Addresses of OPA: what is none is refused at start, and a token is never shown."""

from __future__ import annotations

import pytest

from regate_adapters.opa.client import OpaAddress
from regate_orchestrator.errors import ConfigurationError


@pytest.mark.parametrize(
    "url", ["opa:8181", "ftp://opa", "http://", "http://user:word@opa", "http://opa?x=1"]
)
def test_address_that_is_no_plain_http_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        OpaAddress(url)


def test_token_is_in_no_repr() -> None:
    assert "secret" not in repr(OpaAddress("https://opa", token="secret"))
