"""`web_search`: searches of the web, pages that are opened, and what is found in them.

A model calls one of three functions, which policies know as one tool. A page can be opened only at an address
that a search found or a user wrote: a model that was led astray could else put what it read into an address.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, cast

from regate_orchestrator.documents.urls import Url, read_url
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.lineage import PageSource
from regate_orchestrator.ports import WebPlace
from regate_orchestrator.responses.arguments import is_whole, object_in
from regate_orchestrator.responses.tools.passage import Passage
from regate_orchestrator.responses.tools.tool import (
    Notes,
    ServerTool,
    Surroundings,
    ToolCall,
    ToolKind,
    ToolResult,
)
from regate_orchestrator.responses.tools.view import tool_view
from regate_orchestrator.responses.tools.wire import wire_function
from regate_orchestrator.values import Json, JsonObject

SOURCES: Final = "web_search_call.action.sources"
"""What of `include` asks for the pages that a search found."""

SEARCH, OPEN, FIND = "web_search", "web_search_open_page", "web_search_find_in_page"
MAX_QUERIES: Final = 4
_MAX_QUERY: Final = 1_000
_MAX_URL: Final = 8_192
_READS_THE_WEB: Final[JsonObject] = {
    "read_only": True,
    "destructive": False,
    "idempotent": True,
    "open_world": True,
}
_WRITTEN_URL: Final = re.compile(r"https?://[^\s<>\"`]+", re.IGNORECASE)
_AFTER_URL: Final = ".,;:!?'*_)]}»”’"


_URL: Final[JsonObject] = {
    "type": "string",
    "description": "The page's address, exactly as a search found it or the user wrote it.",
}
_FUNCTIONS: Final[Mapping[str, JsonObject]] = {
    SEARCH: wire_function(
        SEARCH,
        "Search the web. Returns parts of pages, each under a marker such as 【1】.",
        queries={
            "type": "array",
            "items": {"type": "string"},
            "minItems": 1,
            "maxItems": MAX_QUERIES,
            "description": "What to look for; several queries are searched at once.",
        },
    ),
    OPEN: wire_function(OPEN, "Read a page that a search found, or whose address the user wrote.", url=_URL),
    FIND: wire_function(
        FIND,
        "Find a text in a page that a search found, or whose address the user wrote.",
        url=_URL,
        pattern={"type": "string", "description": "The text to find, word for word."},
    ),
}


class _WebSearch(ToolKind):
    type = "web_search"
    item_type = "web_search_call"
    id_prefix = "ws_"
    progress = "searching"
    is_announced_early = False
    reads_context = True
    notes = Notes(
        bad_arguments="The call did not run: its arguments must be a JSON object as the function describes.",
        denied="The call did not run: it is not permitted.",
        result_denied="The call ran, but its result may not be used.",
        no_more="No further search is possible. Answer with what was found.",
    )

    def read(self, arguments: str) -> JsonObject | None:
        written = object_in(arguments)
        return None if written is None else read_arguments(written)

    def item(self, call: ToolCall, status: str, result: ToolResult | None = None) -> JsonObject:
        action = action_of(read_arguments(call.arguments or {}))
        return {"id": call.item_id, "type": self.item_type, "status": status, "action": action}

    def called(self, item: JsonObject) -> tuple[str, Mapping[str, Json]]:
        action = cast("JsonObject", item["action"])
        match action["type"]:
            case "open_page":
                return OPEN, {"url": action["url"]}
            case "find_in_page":
                return FIND, {"url": action["url"], "pattern": action["pattern"]}
            case _:
                return SEARCH, {"queries": action["queries"]}

    def view(self, item: JsonObject) -> JsonObject:
        return _view()

    def shown(self, item: JsonObject, passages: Sequence[Passage], include: Collection[str]) -> JsonObject:
        action = cast("JsonObject", item["action"])
        if SOURCES not in include or action["type"] != "search":
            return item
        urls = dict.fromkeys(one.source.url for one in passages if isinstance(one.source, PageSource))
        sources: list[Json] = [{"type": "url", "url": url} for url in urls]
        return {**item, "action": {**action, "sources": sources}}

    def answer(self, item: JsonObject) -> str:
        return "The call failed." if item["status"] == "failed" else ""

    def empty(self, item: JsonObject) -> JsonObject:
        return {**item, "action": action_of(None)}


WEB_SEARCH: Final[ToolKind] = _WebSearch()


@dataclass(frozen=True, slots=True)
class WebSearchTool(ServerTool):
    """The tool as a request offers it."""

    echo: JsonObject
    domains: tuple[str, ...] = ()
    """The only domains, with all below them; none for no such limit."""
    place: WebPlace | None = None
    most_hits: int | None = None
    """The most results of one call; None for the operator's limit."""
    page_characters: int = 20_000
    """The longest text of one page."""
    known: frozenset[str] = field(default=frozenset())
    """The addresses that may be opened."""
    kind: ClassVar[ToolKind] = WEB_SEARCH

    @property
    def functions(self) -> Mapping[str, JsonObject]:
        """The functions that a model is offered."""
        return _FUNCTIONS

    def called(self, name: str) -> JsonObject:
        """Return the one tool that policies know."""
        return _view()

    def view(self, arguments: JsonObject) -> JsonObject:
        """Return the arguments as policies see them: queries by number and length, a page by its host."""
        action = action_of(read_arguments(arguments))
        match action["type"]:
            case "search":
                queries = cast("Sequence[str]", action["queries"])
                lengths = sum(map(len, queries))
                return {"action": "search", "queries": len(queries), "query_length": lengths}
            case kind:
                url = url_of(cast("str", action["url"]))
                return {"action": kind, "host": "" if url is None else url.host}

    def within(self, surroundings: Surroundings) -> WebSearchTool:
        """Return the tool with the addresses that may be opened after this."""
        written = (url for text in surroundings.said for url in _urls_in(text))
        found = (one.source.url for one in surroundings.passages if isinstance(one.source, PageSource))
        return replace(self, known=frozenset((*written, *found)))

    def has_domain(self, host: str) -> bool:
        """Return whether the request lets pages of this host be used."""
        return not self.domains or any(
            host == domain or host.endswith(f".{domain}") for domain in self.domains
        )


def url_of(text: str) -> Url | None:
    """Return the address that a text is; None where it is none."""
    try:
        return read_url(text)
    except InvalidRequest:
        return None


def read_arguments(written: JsonObject) -> JsonObject | None:
    """Return what of a call's arguments is used: `queries`, or `url`, or `url` and `pattern`; None where they
    are none of these.
    """
    match written:
        case {"url": str(url), "pattern": str(pattern)} if _are_texts([url, pattern], most=_MAX_URL):
            return {"url": url, "pattern": pattern}
        case {"url": str(url), **others} if "pattern" not in others and _are_texts([url], most=_MAX_URL):
            return {"url": url}
        case {"queries": [*queries]} if 0 < len(queries) <= MAX_QUERIES:
            return {"queries": queries} if _are_texts(queries, most=_MAX_QUERY) else None
        case {"query": str(query)} if _are_texts([query], most=_MAX_QUERY):
            return {"queries": [query]}
        case _:
            return None


def _are_texts(values: Sequence[Json], *, most: int) -> bool:
    return all(isinstance(one, str) and one.strip() and len(one) <= most and is_whole(one) for one in values)


def action_of(arguments: JsonObject | None) -> JsonObject:
    """Return the action of the item of a call with these arguments."""
    match arguments:
        case {"url": url, "pattern": pattern}:
            return {"type": "find_in_page", "url": url, "pattern": pattern}
        case {"url": url}:
            return {"type": "open_page", "url": url}
        case {"queries": [*queries]}:
            return {"type": "search", "query": queries[0], "queries": queries}
        case _:
            return {"type": "search", "query": "", "queries": []}


def _view() -> JsonObject:
    return tool_view(WEB_SEARCH.type, WEB_SEARCH.type, annotations=_READS_THE_WEB)


def _urls_in(text: str) -> Sequence[str]:
    """Return the addresses in what a user wrote, each also without what may only end the sentence."""
    found: list[str] = []
    for written in _WRITTEN_URL.findall(text):
        whole, bare = url_of(written), url_of(written.rstrip(_AFTER_URL))
        found += [str(one) for one in (whole, bare) if one is not None]
    return found
