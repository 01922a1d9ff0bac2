"""`/healthz`, `/readyz` and `/metrics`: the only routes without a caller. They tell of the process,
never of anybody's data.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from regate_gateway.http.connection import reply
from regate_gateway.services import Services
from regate_gateway.telemetry.exposition import exposition
from regate_orchestrator.errors import RegateError

_DEADLINE_SECONDS: Final = 3.0
_OTHERS_SECONDS: Final = 0.8
"""How long engines have that need not answer: they must not keep an answer from a probe, of which many wait
for a second.
"""

_log = logging.getLogger("regate.health")


async def alive(request: Request) -> Response:  # noqa: ARG001 — Starlette's signature
    """Answer `GET /healthz`: the process serves requests."""
    return reply({"status": "ok"})


class Readiness:
    """`GET /readyz`: 200 when policy, state, files, vector store and one upstream at least would answer; else
    503, naming what would not.

    Anybody may ask, so the answer has codes; the cause is logged, once for each change. 503 too once the
    gateway was told to end, while it still answers everything else.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._away: dict[str, str] = {}
        """The codes of what did not answer when it was asked last."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request. Of a gateway that is about to end nothing else matters."""
        if scope["state"].get("ending"):
            await reply({"status": "ending"}, 503)(scope, receive, send)
            return
        services = self._services
        revision = ""

        async def policy_answers() -> None:
            nonlocal revision
            revision = await services.enforcer.revision()

        policy, state, files, engines, upstreams = await asyncio.gather(
            self._probe("policy", policy_answers()),
            self._probe("state", services.state.check()),
            self._probe("files", services.blobs.check()),
            self._engines(),
            self._probe("upstreams", services.upstreams.check()),
        )
        parts = {
            "policy": policy,
            "state": state,
            "files": files,
            "vector_store": engines[services.vectors.default],
            "upstreams": upstreams,
        }
        ready = all(part is None for part in parts.values())
        problem = services.policy_problem()
        body: dict[str, object] = {
            "status": "ready" if ready and not problem else "degraded" if ready else "not ready"
        }
        body["checks"] = {name: "ok" if part is None else part for name, part in parts.items()}
        body["vector_stores"] = {name: part or "ok" for name, part in engines.items()}
        body["upstreams"] = dict(services.upstreams.reach())
        if ready:
            body["policy_revision"] = revision
        if problem:
            body["policy_problem"] = problem.splitlines()[
                0
            ]  # what follows quotes the policy, and anybody may ask here
        await reply(body, 200 if ready else 503)(scope, receive, send)

    async def _engines(self) -> dict[str, str | None]:
        """Return what is wrong with each vector engine. Only that of new stores must answer: one
        tenant's own is not everybody's matter.
        """
        vectors = self._services.vectors
        within = dict.fromkeys(vectors.names, _OTHERS_SECONDS) | {vectors.default: _DEADLINE_SECONDS}
        probes = (
            self._probe(f"vector_stores.{name}", vectors.check_engine(name), within_s=seconds)
            for name, seconds in within.items()
        )
        return dict(zip(within, await asyncio.gather(*probes), strict=True))

    async def _probe(
        self, part: str, check: Awaitable[object], *, within_s: float | None = None
    ) -> str | None:
        """Return None when the check passes in time, else a code: never a dependency's own words."""
        code, cause = None, ""
        within_s = within_s or _DEADLINE_SECONDS
        try:
            async with asyncio.timeout(within_s):
                await check
        except RegateError as error:
            code, cause = error.code or "unavailable", getattr(error, "detail", "") or error.message
        except TimeoutError:
            code, cause = "timeout", f"no answer within {within_s:g} s"
        self._tell(part, code, cause)
        return code

    def _tell(self, part: str, code: str | None, cause: str) -> None:
        """Log that a part is away, or there again, unless that was said."""
        if code == self._away.get(part):
            return
        if code is None:
            del self._away[part]
            _log.info("part_answers_again", extra={"part": part})
        else:
            self._away[part] = code
            _log.warning("part_does_not_answer", extra={"part": part, "code": code, "cause": cause})


class Exposition:
    """`GET /metrics` in Prometheus' text format. Labels hold names from code and configuration only,
    never of tenants or people.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request: 503 when the other workers' figures cannot be had."""
        try:
            text, content_type = exposition(await self._services.figures())
        except TimeoutError:
            await reply({"status": "unavailable"}, 503)(scope, receive, send)
            return
        await Response(text, media_type=content_type)(scope, receive, send)
