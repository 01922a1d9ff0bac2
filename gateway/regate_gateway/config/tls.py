"""TLS that the gateway terminates itself: from the settings to the context that its server uses, and to a new
certificate when the files change.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from regate_gateway.config.listen_settings import Tls
from regate_orchestrator.errors import ConfigurationError

_log = logging.getLogger("regate.server")


class ServerTls:
    """The context of the server, at least TLS 1.2. Raises `ConfigurationError` when a file cannot be used.

    With `client_ca` clients present certificates, which are verified by it alone, and no session is resumed:
    each connection shows its certificate anew, under the authorities of this start.
    """

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self.context = self._made()
        self._seen = self._mark()

    async def refresh(self) -> None:
        """Use the certificate and key as they are now, for new connections. What cannot be used is logged,
        and the pair at hand stays.
        """
        try:
            mark = self._mark()
            if mark == self._seen:
                return
            self._made()  # a pair that does not fit must not get half into the context in use
            self.context.load_cert_chain(self._tls.cert, self._tls.key)
            self._seen = mark
        except (OSError, ConfigurationError) as error:
            _log.warning("the certificate cannot be read again, the one at hand stays: %s", error)
        else:
            _log.info("the certificate was read again")

    def _made(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._tls.cert, self._tls.key)
        except OSError as error:  # of which ssl.SSLError is one
            raise ConfigurationError(
                f"listen.tls: {self._tls.cert} and {self._tls.key} are not a certificate and its key: {error}"
            ) from error
        if self._tls.client_ca is not None:
            try:
                context.load_verify_locations(self._tls.client_ca)
            except OSError as error:
                raise ConfigurationError(
                    f"listen.tls.client_ca: {self._tls.client_ca} holds no certificates that can be read"
                ) from error
            is_required = self._tls.client_certificates == "required"
            context.verify_mode = ssl.CERT_REQUIRED if is_required else ssl.CERT_OPTIONAL
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        return context

    def _mark(self) -> tuple[tuple[int, int, int], ...]:
        return tuple(map(_mark_of, (self._tls.cert, self._tls.key)))


def _mark_of(path: Path) -> tuple[int, int, int]:
    about = path.stat()
    return about.st_mtime_ns, about.st_size, about.st_ino
