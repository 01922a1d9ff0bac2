"""A collector of OpenTelemetry logs over sockets, which does as it is told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Collector:
    """What has come. `answers` are given one by one before it takes anything: a status, `cut` the connection
    before or `late` after what came was taken.
    """

    url: str = ""
    answers: list[int | str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[web.BaseRequest] = field(default_factory=list)
    log_records: list[dict[str, Any]] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    rejected: int = 0

    @property
    def numbers(self) -> list[int]:
        """The numbers of the records, as they came."""
        return [int(attributes(one)["regate.seq"]) for one in self.log_records]

    @property
    def first_times(self) -> list[int]:
        """The numbers of the records, each as it came first."""
        return list(dict.fromkeys(self.numbers))

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        body = json.loads(await request.read())
        how = self.answers.pop(0) if self.answers else 200
        if isinstance(how, int) and how != 200:
            return web.Response(status=how, headers=self.headers)
        if how != "cut":
            for resource in body["resourceLogs"]:
                self.resources.append(named(resource["resource"]["attributes"]))
                for scope in resource["scopeLogs"]:
                    self.log_records += scope["logRecords"]
        if how != 200:
            assert request.transport is not None
            request.transport.abort()
        if self.rejected:
            return web.json_response({"partialSuccess": {"rejectedLogRecords": str(self.rejected)}})
        return web.json_response({})


def attributes(log_record: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a log record by their names."""
    return named(log_record["attributes"])


def named(given: list[dict[str, Any]]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values())) for one in given}


@asynccontextmanager
async def running_collector(port: int = 0) -> AsyncIterator[Collector]:
    """A collector that listens."""
    collector = Collector()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/logs", collector.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/logs"
    try:
        yield collector
    finally:
        await runner.cleanup()
