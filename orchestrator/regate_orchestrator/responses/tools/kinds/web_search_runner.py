"""Runs `web_search`: asks the provider, fetches pages, and has every page decided before a model reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, zip_longest
from typing import Final, cast

from regate_orchestrator.authz.batches import Batch
from regate_orchestrator.authz.decisions import Allow, Context, Point, Question
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.concurrency import few_at_once
from regate_orchestrator.documents.file_text import FileReader, Inline, name_of
from regate_orchestrator.documents.urls import Url
from regate_orchestrator.documents.visible_text import visible_line, visible_text
from regate_orchestrator.egress import Destination
from regate_orchestrator.errors import EgressDenied, FetchFailed, InvalidRequest, TooLarge
from regate_orchestrator.lineage import PageSource
from regate_orchestrator.ports import (
    Fetcher,
    SearchFailed,
    SearchProvider,
    UnreadableFile,
    WebHit,
    WebQuery,
)
from regate_orchestrator.responses.tools.calls import failure
from regate_orchestrator.responses.tools.kinds.web_search import WebSearchTool, read_arguments, url_of
from regate_orchestrator.responses.tools.passage import Passage
from regate_orchestrator.responses.tools.tool import ToolCall, ToolResult
from regate_orchestrator.retrieval.stores import OpenStore
from regate_orchestrator.values import JsonObject, StoreId

_MAX_PAGE: Final = 8 * 1024 * 1024
_MAX_PAGE_TEXT: Final = 16 * 1024 * 1024
_MAX_SNIPPET: Final = 4_000
_MAX_TITLE: Final = 200
_AROUND: Final = 2
"""Lines before and after one that holds what was sought."""
_PAGE: Final = "text/html"
_NAMES: Final = {_PAGE: "page.html", "application/xhtml+xml": "page.html", "": "page.html"}

NOT_KNOWN: Final = (
    "The page was not opened. Only an address that a search found, or that the user wrote, can be opened, "
    "exactly as it stands there."
)
NOT_PERMITTED: Final = "The page was not opened: its address is not permitted."
NOT_THERE: Final = "The page could not be read."
NO_SEARCH: Final = "The search could not be made."
NOT_FOUND: Final = "The page does not hold this text."


@dataclass(frozen=True, slots=True)
class Web:
    """What reaches the web: a provider of searches, what fetches pages, and what reads them."""

    provider: SearchProvider
    fetcher: Fetcher
    reader: FileReader
    max_results: int = 8


@dataclass(frozen=True, slots=True)
class _Page:
    url: Url
    title: str
    text: str
    mime: str = _PAGE

    def result(self) -> JsonObject:
        """Return the page as policies see it."""
        return {"mime": self.mime, "size": len(self.text.encode()), "labels": [], "host": self.url.host}


@dataclass(frozen=True, slots=True)
class WebSearchRunner:
    """Searches and reads pages for the loop; none, where no provider is configured."""

    enforcer: Enforcer
    web: Web | None

    async def run(self, context: Context, call: ToolCall, stores: Mapping[StoreId, OpenStore]) -> ToolResult:
        """Return the pages that were found, each of them admitted."""
        arguments = read_arguments(call.arguments or {})
        if self.web is None or arguments is None:
            return failure(call, NO_SEARCH)
        tool = cast("WebSearchTool", call.tool)
        if "queries" in arguments:
            return await self._search(
                context, call, tool, self.web, cast("Sequence[str]", arguments["queries"])
            )
        return await self._open(context, call, tool, self.web, arguments)

    async def _search(
        self, context: Context, call: ToolCall, tool: WebSearchTool, web: Web, queries: Sequence[str]
    ) -> ToolResult:
        limit = min(web.max_results, tool.most_hits or web.max_results)
        asking = [
            partial(web.provider.search, context, WebQuery(text, limit, tool.domains, tool.place))
            for text in queries
        ]
        try:
            found = await few_at_once(asking, most=len(asking))
        except SearchFailed:
            return failure(call, NO_SEARCH)
        pages = _distinct(chain.from_iterable(zip_longest(*found)), tool)
        return _result(call, (await self._admitted(context, call, pages))[:limit])

    async def _open(
        self, context: Context, call: ToolCall, tool: WebSearchTool, web: Web, arguments: JsonObject
    ) -> ToolResult:
        url = url_of(cast("str", arguments["url"]))
        if url is None or str(url) not in tool.known:
            return failure(call, NOT_KNOWN)
        # Before anything is sent there: a page that could not be used is not fetched.
        if not tool.has_domain(url.host) or not await self._admitted(context, call, [_Page(url, "", "")]):
            return failure(call, NOT_PERMITTED)
        try:
            page = await self._fetched(context, web, url)
        except EgressDenied:
            return failure(call, NOT_PERMITTED)
        except (FetchFailed, InvalidRequest, TooLarge, UnreadableFile):
            return failure(call, NOT_THERE)
        if not tool.has_domain(page.url.host):  # it led elsewhere
            return failure(call, NOT_PERMITTED)
        most = min(tool.page_characters, call.terms.max_result_bytes)
        pattern = arguments.get("pattern")
        text = page.text if pattern is None else _lines_with(cast("str", pattern), page.text)
        if pattern is not None and not text:
            return ToolResult(text=NOT_FOUND, size=len(NOT_FOUND))
        shown = _Page(page.url, page.title, _cut(text, most), page.mime)
        admitted = await self._admitted(context, call, [shown])
        return _result(call, admitted) if admitted else failure(call, NOT_PERMITTED)

    async def _fetched(self, context: Context, web: Web, url: Url) -> _Page:
        found = await web.fetcher.fetch(context, str(url), "page", limit_bytes=_MAX_PAGE)
        name = _NAMES.get(found.media_type) or name_of(found.media_type)
        if name is None:
            raise UnreadableFile("unsupported_file", "The page is of a kind that is not read.")
        text = await web.reader.text_of_inline(
            Inline(found.data, found.media_type),
            filename=name,
            tenant=context.principal.tenant,
            limit_bytes=_MAX_PAGE_TEXT,
        )
        text = visible_text(text).strip()
        at, first = url_of(found.url) or url, text.partition("\n")[0]
        return _Page(at, visible_line(first, most=_MAX_TITLE) or at.host, text, found.media_type or _PAGE)

    async def _admitted(self, context: Context, call: ToolCall, pages: Sequence[_Page]) -> list[_Page]:
        """Return the pages whose host may be connected to and that may enter the prompt, as one record."""
        if not pages:
            return []
        tool = call.tool.called(call.name)
        places = dict.fromkeys(map(_place, pages))
        questions = [
            Question(Point.EGRESS, "egress.connect", {"destination": place.view()}, about=place.host)
            for place in places
        ]
        decisions, admitted = await self.enforcer.decide_all(
            context,
            "tool.pages",
            questions,
            batch=Batch(tool_results=[{"tool": tool, "result": page.result()} for page in pages]),
            notes={"kind": "tool.pages", "about": call.item_id},
        )
        open_places = {
            place for place, decision in zip(places, decisions, strict=True) if isinstance(decision, Allow)
        }
        return [
            page
            for position, page in enumerate(pages)
            if position in admitted.tool_results and _place(page) in open_places
        ]


def _place(page: _Page) -> Destination:
    return Destination("page", page.url.scheme, page.url.host, page.url.port)


def _distinct(hits: chain[WebHit | None], tool: WebSearchTool) -> list[_Page]:
    """Return the hits as pages, each address once, of the domains that the request names."""
    pages: dict[str, _Page] = {}
    for hit in hits:
        url = None if hit is None else url_of(hit.url)
        if hit is None or url is None or not tool.has_domain(url.host) or str(url) in pages:
            continue
        text = visible_text(hit.snippet).strip()[:_MAX_SNIPPET]
        pages[str(url)] = _Page(url, visible_line(hit.title, most=_MAX_TITLE) or url.host, text)
    return list(pages.values())


def _result(call: ToolCall, pages: Sequence[_Page]) -> ToolResult:
    tool = call.tool.called(call.name)
    passages = [
        Passage(PageSource(str(page.url), tool, page.result()), page.title, page.text) for page in pages
    ]
    return ToolResult(tuple(passages), sum(len(page.text.encode()) for page in pages), mime=_PAGE)


def _lines_with(pattern: str, text: str) -> str:
    """Return the lines that hold the text, whatever the case, each with those around it."""
    sought = " ".join(pattern.casefold().split())
    lines = text.split("\n")
    near: set[int] = set()
    for number, line in enumerate(lines):
        if sought in " ".join(line.casefold().split()):
            near.update(range(max(0, number - _AROUND), min(len(lines), number + _AROUND + 1)))
    parts: list[str] = []
    for number in sorted(near):
        if parts and number - 1 not in near:
            parts.append("…")
        parts.append(lines[number])
    return "\n".join(parts)


def _cut(text: str, most: int) -> str:
    """Return the text with no more than so many characters, nor bytes of UTF-8."""
    return text[:most].encode()[:most].decode(errors="ignore")
