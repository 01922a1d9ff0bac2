"""Authorizing a turn: everything that it needs is decided before a token is spent, in one audit record.

The route and model, the tools that the model may see, the stores of `file_search`, every stored item to be
used again and every source behind it (`gate.py`), the files inside messages, and the outputs of the client's
tools. Not what happens then (`responses/machine.py`), and not how decisions are asked for
(`authz/enforcer.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

from regate_orchestrator.authz.batches import Admitted
from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.errors import InvalidRequest, NotPermitted
from regate_orchestrator.lineage import NOTHING_READ, Lineage
from regate_orchestrator.ports import Catalogue
from regate_orchestrator.responses.client_tools.deferred import found_in
from regate_orchestrator.responses.context.gate import Gate, Passed
from regate_orchestrator.responses.context.history import History, history_of, prompt_item, returned
from regate_orchestrator.responses.context.refusals import no_item, no_previous, withheld_refused
from regate_orchestrator.responses.context.sealing import SEALED, Sealer, kept_text, unseal
from regate_orchestrator.responses.context.sent_results import denied_from, sent_results
from regate_orchestrator.responses.events import ContextDecided, Recalled, TurnAuthorized
from regate_orchestrator.responses.message_parts import MessageParts, Reading, files_of
from regate_orchestrator.responses.prompt import PromptItem
from regate_orchestrator.responses.request import ResponseRequest
from regate_orchestrator.responses.tools.permits import Permits
from regate_orchestrator.responses.tools.trace import trace_of
from regate_orchestrator.responses.tools.visible import hidden_tools
from regate_orchestrator.retrieval.search import Retrieval
from regate_orchestrator.retrieval.stores import OpenStore, opened
from regate_orchestrator.routing import MAX_OUTPUT_TOKENS, NO_STORE, Chosen, route_question, serve
from regate_orchestrator.rows import MAX_HISTORY_ITEMS, ItemWithParent, StoredItem, too_many_items
from regate_orchestrator.upstream_capabilities import UpstreamCapabilities
from regate_orchestrator.values import FileId, JsonObject, StoreId

_ABLE: Final = frozenset({NO_STORE, MAX_OUTPUT_TOKENS})
_REQUEST: Final[JsonObject] = {"id": "", "kind": "request", "labels": [], "created": 0, "policy_revision": ""}


@dataclass(frozen=True, slots=True)
class Turn:
    """An authorized turn, the stores that its searches may use, and what in its context is decided
    again for each further model call.
    """

    authorized: TurnAuthorized
    stores: Mapping[StoreId, OpenStore]
    items: tuple[ItemWithParent, ...]
    tool_results: tuple[JsonObject, ...]


@dataclass(frozen=True, slots=True)
class _Decided:
    ids: tuple[StoreId, ...]
    present: Mapping[StoreId, OpenStore]
    chosen: Chosen
    admitted: Admitted
    revision: str
    passed: Passed
    hidden: frozenset[str]
    tool_results: tuple[JsonObject, ...]
    sent_denied: bool
    """Whether an output of a tool in the request is not admitted."""


@dataclass(frozen=True, slots=True)
class Authorizer:
    """Decides turns. `parts` reads the files and images inside messages, `permits` knows approvals."""

    enforcer: Enforcer
    gate: Gate
    retrieval: Retrieval
    catalogue: Catalogue
    sealer: Sealer
    parts: MessageParts
    permits: Permits

    async def authorize(self, context: Context, request: ResponseRequest, recalled: Recalled) -> Turn:
        """Return the turn; raises the refusal. Foreign and absent are one, for models, stores, files,
        items and what is continued from.
        """
        if len(recalled.earlier) + len(request.items) > MAX_HISTORY_ITEMS:
            raise too_many_items(param="input")
        sent = self._sent(context, request, recalled)
        history = history_of([*recalled.earlier, *(one for one in sent if isinstance(one, ItemWithParent))])
        files = _files(history, sent)
        decided = await self._decide(context, request, recalled, history, files)
        stores = opened(decided.ids, decided.present, decided.admitted.stores, param="tools")
        self.retrieval.require_models(stores)
        if decided.sent_denied:
            message = "The policy does not admit a function call output of this request."
            raise NotPermitted(message, param="input")
        await self._check_earlier(context, request, recalled, decided.passed)
        approvals = await self.permits.approved(
            context, request.items, [one.item.body for one in recalled.earlier]
        )
        capabilities = self.catalogue.capabilities(decided.chosen.upstream)
        _require_taken(request, capabilities)
        passed = decided.passed
        reading = Reading(context, passed.files, capabilities)
        prompted, inputs = await self._current(request, sent, passed, reading)
        earlier = await self._earlier(recalled.earlier, passed, reading)
        authorized = TurnAuthorized(
            upstream=decided.chosen.upstream,
            revision=decided.revision,
            history=tuple(earlier),
            sent=tuple(prompted),
            inputs=tuple(inputs),
            lineage=_context(passed, [*earlier, *prompted]),
            hidden=decided.hidden,
            capabilities=capabilities,
            alternates=decided.chosen.alternates,
            max_output_tokens=decided.chosen.obligations.max_output_tokens,
            trace=trace_of(history.sources.values()),
            approvals=approvals,
        )
        items = tuple(one for position, one in enumerate(history.items) if position in passed.items)
        return Turn(authorized, {store.row.id: store for store in stores}, items, decided.tool_results)

    async def _decide(
        self,
        context: Context,
        request: ResponseRequest,
        recalled: Recalled,
        history: History,
        files: Sequence[FileId],
    ) -> _Decided:
        """Return what was decided of the turn, all in one batch. Raises the refusal of the route."""
        ids = tuple(dict.fromkeys(store for tool in request.server_tools for store in tool.store_ids))
        present = await self.retrieval.candidates_to_open(context, ids)
        asked = await self.gate.ask(context, history, files=files)
        wanted: dict[str, JsonObject] = {
            store: present[store].view if store in present else {"id": ""} for store in ids
        }
        results = sent_results(request.items)
        both = (*asked.batch.tool_results, *results)
        batch = replace(asked.batch, stores={**asked.batch.stores, **wanted}, tool_results=both)
        questions = [route_question(request.model, _route(request)), *asked.questions]
        (decisions, admitted), hidden = await asyncio.gather(
            self.enforcer.decide_all(context, "turn", questions, batch=batch),
            self._hidden(context, request, recalled),
        )
        chosen = await serve(decisions[0], request.model, catalogue=self.catalogue, supported=_ABLE)
        if chosen.obligations.no_store and request.store:
            raise NotPermitted(
                "The policy permits this model only for responses that are not stored: send 'store': false.",
                param="store",
            )
        revision = admitted.revision or decisions[0].revision
        passed = await self.gate.settled(context, asked, decisions[1:], admitted)
        denied = denied_from(len(asked.results), batch, admitted)
        return _Decided(ids, present, chosen, admitted, revision, passed, hidden, results, denied)

    async def decide_again(
        self, context: Context, turn: Turn, lineage: Lineage
    ) -> tuple[Turn, ContextDecided]:
        """Return what may not be used any more of a turn's context, everything decided in one batch, and the
        turn without it.

        Raises `NotPermitted` where the policy wants nothing used of a context that something is withheld
        from.
        """
        history = History(turn.items, {source.key: source for source in lineage})
        if not (history.items or history.sources or turn.tool_results):
            return turn, ContextDecided()
        asked = await self.gate.ask(context, history)
        batch = replace(asked.batch, tool_results=(*asked.batch.tool_results, *turn.tool_results))
        decisions, admitted = await self.enforcer.decide_all(
            context, "context", asked.questions, batch=batch, notes=asked.notes
        )
        passed = await self.gate.settled(context, asked, decisions, admitted)
        items = tuple(one for position, one in enumerate(turn.items) if position in passed.items)
        count = len(turn.items) - len(items) + len(passed.denied)
        last = turn.items[-1].holder if turn.items else _request_of(context)
        if denied_from(len(asked.results), batch, admitted) or (
            count and not await self.gate.withholds(context, last, count=count)
        ):
            raise withheld_refused()
        denied = frozenset(one.item.id for one in turn.items) - frozenset(one.item.id for one in items)
        return replace(turn, items=items), ContextDecided(denied, passed.denied)

    def _sent(
        self, context: Context, request: ResponseRequest, recalled: Recalled
    ) -> list[JsonObject | ItemWithParent]:
        """Return the request's items: those that the client wrote as they are, those that stand for something
        of ours with what holds it.

        Raises `NotFound` for a reference to nothing, and `InvalidRequest` for a sealed item that was not made
        here.
        """
        known = {one.item.id for one in recalled.earlier}
        holder = _request_of(context)
        sent: list[JsonObject | ItemWithParent] = []
        for item in request.items:
            if item["type"] == "item_reference":
                identifier = cast("str", item["id"])
                if identifier in known:  # it is in the conversation, or was referred to, already
                    continue
                known.add(identifier)
                if identifier not in recalled.referenced:
                    raise no_item(identifier)
                found = recalled.referenced[identifier]
                sent.append(ItemWithParent(found.holder, replace(found.item, direction="input")))
            elif item["type"] in SEALED and item.get("encrypted_content"):
                unsealed = unseal(
                    self.sealer,
                    item,
                    tenant=context.principal.tenant,
                    owner=context.principal.id,
                    model=request.model,
                )
                sent.append(
                    ItemWithParent(
                        holder, StoredItem(cast("str", item["id"]), item, "input", unsealed.lineage)
                    )
                )
            else:
                sent.append(item)
        return sent

    async def _hidden(self, context: Context, request: ResponseRequest, recalled: Recalled) -> frozenset[str]:
        """Return the tools, by wire name, that the policy does not let the model see; see `hidden_tools`.
        What clients found is asked about as well.
        """
        earlier = [*recalled.earlier, *recalled.referenced.values()] if request.searches else ()
        found = found_in([*(one.item.body for one in earlier), *request.items])
        offered = {wire: tool.kind.view(wire) for wire, tool in found.tools.items()}
        offered |= {tool.wire: tool.kind.view(tool.wire) for tool in request.client_tools}
        offered |= {name: tool.called(name) for name, tool in request.server_functions.items()}
        return await hidden_tools(self.enforcer, context, offered)

    async def _check_earlier(
        self, context: Context, request: ResponseRequest, recalled: Recalled, passed: Passed
    ) -> None:
        """Refuse what the caller may not continue or refer to, and what something is withheld from
        where the policy says `refuse`.
        """
        count = len(recalled.earlier)
        if (
            request.previous_response_id is not None
            and count
            and not any(position < count for position in passed.items)
        ):
            raise no_previous(
                request.previous_response_id
            )  # not one item may be reused: to this caller the chain does not exist
        for position, (item, _) in enumerate(passed.left.items[count:], start=count):
            if position not in passed.items:
                raise no_item(item.id)
        if passed.left.withheld == 0:
            return
        last = recalled.earlier[-1].holder if recalled.earlier else _request_of(context)
        if not await self.gate.withholds(context, last, count=passed.left.withheld):
            raise withheld_refused(param="previous_response_id" if recalled.earlier else "input")

    async def _earlier(
        self, earlier: Sequence[ItemWithParent], passed: Passed, reading: Reading
    ) -> list[PromptItem]:
        """Return the items of the history for the prompt; a file in one that may no longer be read is
        left out of its message.
        """
        prompted: list[PromptItem] = []
        for one, (item, shown) in zip(
            earlier, passed.left.items, strict=False
        ):  # the items of the request follow those
            found = prompt_item(item, shown=shown)
            if shown and item.body["type"] == "compaction":
                found = replace(
                    found,
                    text=kept_text(
                        self.sealer, item.body, tenant=cast("str", one.holder["tenant"]), model=""
                    ),
                )
            elif shown and (parts := await self.parts.earlier(item.body, reading)):
                found = replace(found, parts=parts)
            prompted.append(found)
        return prompted

    async def _current(
        self,
        request: ResponseRequest,
        sent: Sequence[JsonObject | ItemWithParent],
        passed: Passed,
        reading: Reading,
    ) -> tuple[list[PromptItem], list[StoredItem]]:
        """Return the request's items for the prompt, and as they are stored. Raises `NotFound` for a
        file that may not be read.
        """
        prompted: list[PromptItem] = []
        inputs: list[StoredItem] = []
        referred = [one for one in sent if isinstance(one, ItemWithParent)]
        readmitted = iter(passed.left.items[len(passed.left.items) - len(referred) :])
        for one in sent:
            if not isinstance(one, ItemWithParent):
                parts = await self.parts.current(one, reading)
                prompted.append(PromptItem(one, text=returned(one), parts=parts))
                inputs.append(StoredItem(cast("str", one["id"]), one, "input"))
                continue
            item, shown = next(readmitted)
            found = prompt_item(item, shown=shown)
            text = self._text(item, one, request) if shown else ""
            parts = await self.parts.earlier(item.body, reading) if shown else ()
            prompted.append(replace(found, text=text or found.text, parts=parts))
            inputs.append(one.item)
        return prompted, inputs

    def _text(self, item: StoredItem, one: ItemWithParent, request: ResponseRequest) -> str:
        """Return what is sealed in an item. Reasoning that is referred to is there as it was written,
        for whichever model.
        """
        sealed = item.body["type"] == "compaction" or (
            item.body["type"] == "reasoning" and one.holder["kind"] == "request"
        )
        if not sealed or not item.body.get("encrypted_content"):
            return ""
        return kept_text(
            self.sealer, item.body, tenant=cast("str", one.holder["tenant"]), model=request.model
        )


def _require_taken(request: ResponseRequest, capabilities: UpstreamCapabilities) -> None:
    """Raise `InvalidRequest` for a field of a backend's own that the upstream of this model is not
    said to take.
    """
    for name in request.extra:
        if name not in capabilities.extra_fields:
            message = (
                f"Unknown parameter: '{name}'. The backend of this model is not said to take it "
                "('upstreams[].extra_fields')."
            )
            raise InvalidRequest(message, param=name, code="unknown_parameter")


def _files(history: History, sent: Sequence[JsonObject | ItemWithParent]) -> list[FileId]:
    """Return the files that any message names."""
    bodies = [
        *(one.item.body for one in history.items),
        *(one for one in sent if not isinstance(one, ItemWithParent)),
    ]
    return list(dict.fromkeys(file for body in bodies for file in files_of(body)))


def _context(passed: Passed, prompted: Sequence[PromptItem]) -> Lineage:
    """Return everything that the model is about to read. It grows from what the last item that may be
    used again rests on.
    """
    grown_from = next(
        (item.lineage for item, shown in reversed(passed.left.items) if shown and item.lineage.size),
        NOTHING_READ,
    )
    files = [part.source for item in prompted for part in item.parts if part.source is not None]
    return grown_from.plus([*passed.left.sources.values(), *files])


def _request_of(context: Context) -> JsonObject:
    """Return what holds an item that the request itself brings, as `regate.history` sees it."""
    return {**_REQUEST, "tenant": context.principal.tenant, "owner": context.principal.id}


def _route(request: ResponseRequest) -> JsonObject:
    return {
        "method": "POST",
        "path": "/v1/responses",
        "model": request.model,
        "stream": request.stream,
        "tool_types": list(request.tool_types),
    }
