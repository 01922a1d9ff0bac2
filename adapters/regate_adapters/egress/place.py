"""A place that was let out: what `guard.py` returns, and `transport.py` leads to."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from regate_adapters.egress.addresses import Address
from regate_orchestrator.documents.urls import Url


@dataclass(frozen=True, slots=True)
class LetOut:
    """A place that may be connected to, and the checked addresses at which."""

    url: Url
    addresses: tuple[Address, ...]
    tls: ssl.SSLContext
