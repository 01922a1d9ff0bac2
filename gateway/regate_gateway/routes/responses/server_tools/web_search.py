"""`web_search` at the edge, by all the types that it has had."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from regate_gateway.http.misfits import misfit
from regate_gateway.http.models import RequestModel
from regate_gateway.routes.responses.part_models import Item
from regate_gateway.routes.responses.server_tools.registration import Registration
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.ports import WebPlace
from regate_orchestrator.responses.tools.kinds.web_search import (
    SOURCES,
    WEB_SEARCH,
    WebSearchTool,
    action_of,
    read_arguments,
)
from regate_orchestrator.responses.tools.kinds.web_search_runner import WebSearchRunner
from regate_orchestrator.responses.tools.tool import ServerTool
from regate_orchestrator.values import Json, JsonObject, mint

TYPES: Final = (
    "web_search",
    "web_search_2025_08_26",
    "web_search_preview",
    "web_search_preview_2025_03_11",
)
_DOMAIN: Final = re.compile(
    r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
)
_SIZES: Final = {"low": (3, 8_000), "medium": (None, 20_000), "high": (None, 60_000)}
"""For each size of the context the most results, and the most characters of a page."""


def _read_domain(text: str) -> str:
    domain = text.lower()
    if not _DOMAIN.fullmatch(domain):
        raise misfit("'{place}' must be a domain such as 'example.com', without 'https://' and path.")
    return domain


def _require_country(text: str) -> str:
    if text and not re.fullmatch("[A-Za-z]{2}", text):
        raise misfit("'{place}' must be a country's two letters (ISO 3166), such as 'DE'.")
    return text.upper()


Place = Annotated[str, Field(max_length=200)]


class WebFilters(RequestModel):
    """Which pages may be used."""

    allowed_domains: list[Annotated[str, Field(max_length=253), AfterValidator(_read_domain)]] | None = Field(
        None, max_length=100, description="The only domains, with all below them."
    )


class UserLocation(RequestModel):
    """Where the user is, roughly. Providers that know no places are not told."""

    type: Literal["approximate"] = "approximate"
    country: Annotated[str, Field(max_length=2), AfterValidator(_require_country)] | None = Field(
        None, description="Two letters."
    )
    region: Place | None = Field(None, description="The region.")
    city: Place | None = Field(None, description="The city.")
    timezone: Place | None = Field(None, description="The time zone, as `Europe/Berlin`.")


class WebTool(RequestModel):
    """Searches of the web, which run here."""

    type: Literal[
        "web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11"
    ]
    filters: WebFilters | None = Field(None, description="Which pages may be used; the policy may say fewer.")
    user_location: UserLocation | None = Field(None, description="Where the user is.")
    search_context_size: Literal["low", "medium", "high"] = Field(
        "medium", description="How much of what is found the model reads."
    )
    external_web_access: Literal[True] = Field(True, description="False leaves the tool out.")
    search_content_types: list[Literal["text"]] | None = Field(
        None, max_length=1, description="What is looked for; only text is."
    )


class WebSearchCall(Item):
    """A search of an earlier turn. What a client says was found is no evidence, and is not taken over."""

    type: Literal["web_search_call"]
    action: dict[str, Any] | None = Field(None, description="What was asked for.")


def _item(call: WebSearchCall) -> JsonObject:
    action = action_of(read_arguments(call.action or {}))
    return {"id": mint(WEB_SEARCH.id_prefix), "type": call.type, "status": "completed", "action": action}


def _take_over(tool: WebTool, path: str, others: Sequence[ServerTool]) -> WebSearchTool:
    if any(other.kind is WEB_SEARCH for other in others):
        raise InvalidRequest("Only one tool for web search is allowed.", param=f"{path}.type")
    domains = () if tool.filters is None else tuple(tool.filters.allowed_domains or ())
    hits, characters = _SIZES[tool.search_context_size]
    where = tool.user_location
    place = None
    if where is not None:
        place = WebPlace(where.country or "", where.region or "", where.city or "", where.timezone or "")
    echo: dict[str, Json] = {
        "type": tool.type,
        "search_context_size": tool.search_context_size,
        "user_location": None if where is None else where.model_dump(),
    }
    if not tool.type.startswith("web_search_preview"):
        echo["filters"] = {"allowed_domains": list(domains) or None}
    return WebSearchTool(echo=echo, domains=domains, place=place, most_hits=hits, page_characters=characters)


REGISTRATION: Final = Registration(
    kind=WEB_SEARCH,
    model=WebTool,
    take_over=_take_over,
    runner=lambda parts: WebSearchRunner(parts.enforcer, parts.web),
    item_model=WebSearchCall,
    item=_item,
    types=TYPES,
    includes=(SOURCES,),
    section="web_search",
)
