"""`GET /`: what this is, for whoever opens the address in a browser, and the API as `/openapi.json`
has it. It loads nothing else.
"""

from __future__ import annotations

import functools
import html
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Regate</title>
<meta name="viewport" content="width=device-width">
<style>
body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#222;background:#fff}}
code{{font:14px ui-monospace,monospace}}
table{{border-collapse:collapse;width:100%}}
td{{padding:.2rem .6rem .2rem 0;vertical-align:top}}
summary{{cursor:pointer}} dl{{margin:.3rem 0 .6rem 1rem;font-size:14px}}
dt{{font-weight:600}} dd{{margin:0 0 .2rem 1rem}}
</style></head><body>
<h1>Regate {version}</h1>
<p>A gateway for agentic RAG that speaks the OpenAI API, in which policy decides every access. Set the
<code>base_url</code> of an OpenAI client to this address with <code>/v1</code> behind it, and its key to
a token that the operator, or your identity provider, gave you.</p>
<p><a href="/openapi.json">/openapi.json</a> describes the API to programs; <a href="/healthz">/healthz</a>
and <a href="/readyz">/readyz</a> say how the gateway is.</p>
<h2>The API</h2>
{operations}
</body></html>
"""


async def page(request: Request) -> Response:  # noqa: ARG001 — Starlette's signature
    """Answer `GET /`."""
    return Response(_rendered(), media_type="text/html", headers=_HEADERS)


@functools.cache
def _rendered() -> bytes:
    from regate_gateway.openapi.document import build  # loaded by whoever asks first, not at start

    document = build()
    operations = "\n".join(_operations(document))
    return _PAGE.format(version=html.escape(version("regate")), operations=operations).encode()


def _operations(document: dict[str, Any]) -> Iterator[str]:
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            fields = list(_fields(operation, schemas))
            said = f"<code>{method.upper()} {html.escape(path)}</code> {html.escape(operation['summary'])}"
            yield (
                f"<details><summary>{said}</summary><dl>{''.join(fields)}</dl></details>"
                if fields
                else f"<p>{said}</p>"
            )


def _fields(operation: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    """Yield the members of the body, each with its type and whether it must be there."""
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = _followed(content["schema"], schemas)
        required = set(schema.get("required", ()))
        yield f"<dd>{html.escape(kind)}</dd>"
        for name, member in schema.get("properties", {}).items():
            must = ", required" if name in required else ""
            shape = _type_of(_followed(member, schemas))
            yield f"<dt>{html.escape(name)}</dt><dd>{html.escape(shape)}{must}</dd>"


def _followed(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    return schemas.get(reference.rpartition("/")[2], schema) if isinstance(reference, str) else schema


def _type_of(schema: dict[str, Any]) -> str:
    if "enum" in schema or "const" in schema:
        return "one of " + ", ".join(map(str, schema.get("enum", [schema.get("const")])))
    kind = schema.get("type", "any of several")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)
