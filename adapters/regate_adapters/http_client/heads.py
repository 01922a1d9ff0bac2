"""The heads of requests as they go over the wire (RFC 9112, section 3), each written once and used again."""

from __future__ import annotations

from collections.abc import Mapping

from yarl import URL


class Heads:
    """The heads of requests to places below one base URL, with headers that all of them have."""

    def __init__(self, base_url: str, headers: Mapping[str, str]) -> None:
        self._base = base_url.rstrip("/")
        self._headers = headers
        self._made: dict[tuple[str, str], bytes] = {}

    def get(self, authority: str, path: str, *, accept: str = "") -> bytes:
        """Return the head of a GET."""
        return self._begun("GET", authority, path, accept) + b"\r\n\r\n"

    def post(self, authority: str, path: str, body: bytes, *, accept: str = "") -> bytes:
        """Return the head of a POST of this JSON."""
        begun = self._begun("POST", authority, path, accept)
        return b"%s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (begun, len(body))

    def once(self, method: str, authority: str, path: str, body: bytes | None = None) -> bytes:
        """Return the head of a request of any method, with JSON where there is any. It is not kept, so the
        path may be one of many.
        """
        begun = self._written(method, authority, path, "")
        if body is None:
            return begun + b"\r\n\r\n"
        return b"%s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (begun, len(body))

    def _begun(self, method: str, authority: str, path: str, accept: str) -> bytes:
        known = self._made.get((f"{method} {path}", accept))
        if known is None:
            known = self._made[f"{method} {path}", accept] = self._written(method, authority, path, accept)
        return known

    def _written(self, method: str, authority: str, path: str, accept: str) -> bytes:
        headers = {"Host": authority, "Accept-Encoding": "identity", **self._headers}
        if accept:
            headers["Accept"] = accept
        lines = [
            f"{method} {URL(self._base + path).raw_path_qs} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        return "\r\n".join(lines).encode("latin-1")
