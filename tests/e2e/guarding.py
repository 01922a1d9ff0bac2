"""A gateway with guards, and the endpoints that they ask: scripted, as they stand for what is outside."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from tests.e2e.conftest import ScriptedUpstream, World

from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running
from regate_orchestrator.ports import GUARD_STEPS

KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz0123"
EVERYWHERE: dict[str, Any] = {"name": "here", "kind": "detector", "steps": list(GUARD_STEPS)}

Guarded = Callable[..., AbstractAsyncContextManager[World]]


@dataclass
class ScriptedGuards:
    """Answers `/moderations` and guard models: scores by the words of a text, or whatever `answer` says."""

    scores: dict[str, float] = field(default_factory=dict)
    """By the word that a text must hold for the score."""
    verdicts: dict[str, str] = field(default_factory=dict)
    answer: Callable[[], web.Response] | None = None
    seen: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    url: str = ""

    async def moderations(self, request: web.Request) -> web.Response:
        body = await request.json()
        self._note(request, *body["input"])
        if self.answer is not None:
            return self.answer()
        results = [
            {
                "flagged": False,
                "categories": {"violence": False},
                "category_scores": {
                    "violence": max((s for word, s in self.scores.items() if word in text), default=0.0)
                },
            }
            for text in body["input"]
        ]
        return web.json_response({"id": "modr", "model": body["model"], "results": results})

    async def chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        (message,) = body["messages"]
        self._note(request, message["content"])
        if self.answer is not None:
            return self.answer()
        said = next((v for word, v in self.verdicts.items() if word in message["content"]), "safe")
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        return web.json_response({"id": "c", "object": "chat.completion", "choices": [choice]})

    def _note(self, request: web.Request, *texts: str) -> None:
        self.seen += texts
        self.keys.append(request.headers.get("Authorization"))


@asynccontextmanager
async def scripted_guards() -> AsyncIterator[ScriptedGuards]:
    scripted = ScriptedGuards()
    app = web.Application()
    app.router.add_post("/v1/moderations", scripted.moderations)
    app.router.add_post("/v1/chat/completions", scripted.chat)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    scripted.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield scripted
    await runner.cleanup()


def want(policies: Path, **steps: dict[str, Any]) -> None:
    """Make these the operators' thresholds: by step, `labels` and `scores`."""
    data = json.loads((policies / "data.json").read_text())
    nothing: dict[str, Any] = {"scores": {}, "labels": {}}
    data["regate"]["guard_thresholds"] = {step: nothing | steps.get(step, {}) for step in GUARD_STEPS}
    (policies / "data.json").write_text(json.dumps(data))


def guarded_gateway(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path
) -> Guarded:
    """What opens a gateway with the detector at every step, or these guards, under these thresholds."""

    @asynccontextmanager
    async def running(
        *,
        guards: list[dict[str, Any]] | None = None,
        more: dict[str, Any] | None = None,
        **steps: dict[str, Any],
    ) -> AsyncIterator[World]:
        want(policies, **steps)
        providers = [EVERYWHERE] if guards is None else guards
        settings = configure(guards={"providers": providers, "overlap": 64}, **(more or {}))
        app, gateway = gateway_app(settings)
        async with Running(app, settings.listen) as server:
            world = World(server.url, settings, gateway, upstream, policies)
            yield world
            for client in world.clients:
                await client.close()

    return running
