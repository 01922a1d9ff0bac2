"""Authorizing a turn: everything that it needs is decided before a token is spent, in one audit record.

The route and model, the tools that the model may see, the stores of `file_search`, every stored item to be used again and every chunk
behind it, the files inside messages, and the outputs of the client's tools. Not what happens then (`machine.py`), and not how decisions are
asked for (`enforcer.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

from regate_orchestrator.decisions import Allow, Context, Point, Question
from regate_orchestrator.enforcer import Admitted, Batch, Enforcer
from regate_orchestrator.errors import NotFound, NotPermitted, PolicyUnavailable
from regate_orchestrator.ports import Catalogue, StateStore, UpstreamTraits
from regate_orchestrator.responses.events import Recalled, TurnAuthorized
from regate_orchestrator.responses.history import ChunkKey, History, Readmitted, batch_of, history_of, prompt_item, readmit
from regate_orchestrator.responses.message_parts import MessageParts, files_of
from regate_orchestrator.responses.prompt import FILE_SEARCH, OUTPUTS, PromptItem, output_text
from regate_orchestrator.responses.request import ResponseRequest
from regate_orchestrator.responses.sealing import SEALED, Sealer, unseal
from regate_orchestrator.retrieval import OpenStore, Retrieval, opened
from regate_orchestrator.routing import MAX_OUTPUT_TOKENS, NO_STORE, route_question, serve
from regate_orchestrator.rows import FileRow, HeldItem, StoredItem
from regate_orchestrator.values import FileId, Json, JsonObject, StoreId

_ABLE: Final = frozenset({NO_STORE, MAX_OUTPUT_TOKENS})
_REQUEST: Final[JsonObject] = {"id": "", "kind": "request", "labels": [], "created": 0, "policy_revision": ""}


@dataclass(frozen=True, slots=True)
class Turn:
    """An authorized turn, and the stores that its searches may use."""

    authorized: TurnAuthorized
    stores: Mapping[StoreId, OpenStore]


@dataclass(frozen=True, slots=True)
class Authorizer:
    """Decides turns. `parts` reads the files and images inside messages."""

    enforcer: Enforcer
    state: StateStore
    retrieval: Retrieval
    catalogue: Catalogue
    sealer: Sealer
    parts: MessageParts

    async def authorize(self, context: Context, request: ResponseRequest, recalled: Recalled) -> Turn:
        """Return the turn; raises the refusal. Foreign and absent are one, for models, stores, files, items and what is continued from."""
        ids = () if request.file_search is None else request.file_search.store_ids
        present = await self.retrieval.candidates_to_open(context, ids)
        sent = self._sent(context, request, recalled)
        history = history_of([*recalled.earlier, *(one for one in sent if isinstance(one, HeldItem))])
        files = await self._files(context, history, sent)
        batch, keys = await live_batch(context, history, state=self.state, retrieval=self.retrieval)
        asked: dict[str, JsonObject] = {store: present[store].view if store in present else {"id": ""} for store in ids}
        batch = replace(
            batch, stores={**batch.stores, **asked}, tool_results=[tool_result(item) for item in request.items if item["type"] in OUTPUTS]
        )
        route = route_question(request.model, _route(request))
        questions = [route, *(_file_question(self.parts, file, row) for file, row in files.items())]
        (decisions, admitted), hidden = await asyncio.gather(
            self.enforcer.settle(context, "turn", questions, batch=batch), self._hidden(context, request)
        )
        chosen = await serve(decisions[0], request.model, catalogue=self.catalogue, able=_ABLE)
        if chosen.obligations.no_store and request.store:
            raise NotPermitted("The policy permits this model only for responses that are not stored: send 'store': false.", param="store")
        stores = opened(ids, present, admitted.stores, param="tools")
        self.retrieval.require_models(stores)
        if len(admitted.tool_results) < len(batch.tool_results):
            raise NotPermitted("The policy does not admit a function call output of this request.", param="input")
        readable = {
            file: row for (file, row), decision in zip(files.items(), decisions[1:], strict=True) if row and isinstance(decision, Allow)
        }
        left = readmit(history, admitted, keys)
        await self._check_earlier(context, request, recalled, left, admitted)
        traits = self.catalogue.traits(chosen.upstream)
        count = len(recalled.earlier)
        earlier = [await self._earlier(context, item, shown, left, readable, traits) for item, shown in left.items[:count]]
        prompted, inputs = await self._current(request, sent, left.items[count:], left, readable, traits)
        authorized = TurnAuthorized(
            upstream=chosen.upstream,
            revision=admitted.revision or decisions[0].revision,
            history=tuple(earlier),
            sent=tuple(prompted),
            inputs=tuple(inputs),
            lineage=tuple(left.refs.values()),
            hidden=hidden,
            reasoning_field=None if traits.reasoning_field == "none" else traits.reasoning_field,
            alternates=chosen.alternates,
            context_window=traits.context_window,
            max_output_tokens=chosen.obligations.max_output_tokens,
        )
        return Turn(authorized, {store.row.id: store for store in stores})

    def _sent(self, context: Context, request: ResponseRequest, recalled: Recalled) -> list[JsonObject | HeldItem]:
        """Return the request's items: those that the client wrote as they are, those that stand for something of ours with what holds it.

        Raises `NotFound` for a reference to nothing, and `InvalidRequest` for a sealed item that was not made here.
        """
        known = {one.item.id for one in recalled.earlier}
        holder: JsonObject = {**_REQUEST, "tenant": context.principal.tenant, "owner": context.principal.id}
        sent: list[JsonObject | HeldItem] = []
        for item in request.items:
            if item["type"] == "item_reference":
                identifier = cast("str", item["id"])
                if identifier in known:  # it is in the conversation, or was referred to, already
                    continue
                known.add(identifier)
                if identifier not in recalled.referenced:
                    raise no_item(identifier)
                found = recalled.referenced[identifier]
                sent.append(HeldItem(found.holder, replace(found.item, direction="input")))
            elif item["type"] in SEALED and item.get("encrypted_content"):
                unsealed = unseal(self.sealer, item, tenant=context.principal.tenant, model=request.model)
                sent.append(HeldItem(holder, StoredItem(cast("str", item["id"]), item, "input", unsealed.lineage)))
            else:
                sent.append(item)
        return sent

    async def _files(self, context: Context, history: History, sent: Sequence[JsonObject | HeldItem]) -> dict[FileId, FileRow | None]:
        """Return the rows of the files that any message names; None for one that is absent or invisible, which is asked about all the same."""
        bodies = [*(one.item.body for one in history.items), *(one for one in sent if not isinstance(one, HeldItem))]
        named = dict.fromkeys(file for body in bodies for file in files_of(body))
        return {file: await self.state.file(context.principal, file) for file in named}

    async def _hidden(self, context: Context, request: ResponseRequest) -> frozenset[str]:
        """Return the tools, by wire name, that the policy does not let the model see. Raises `PolicyUnavailable` when it does not say which."""
        offered = {tool.wire: "function" for tool in request.client_tools}
        if request.file_search is not None:
            offered[FILE_SEARCH] = FILE_SEARCH
        if not offered:
            return frozenset()
        tools: list[Json] = [tool_view(kind, wire) for wire, kind in offered.items()]
        visible = await self.enforcer.value(context, "regate/tool/visible", "tool.list", {"tools": tools})
        if not isinstance(visible, list | tuple):
            raise PolicyUnavailable("regate/tool/visible is not a set")
        return frozenset(offered) - frozenset(name for name in visible if isinstance(name, str))

    async def _check_earlier(
        self, context: Context, request: ResponseRequest, recalled: Recalled, left: Readmitted, admitted: Admitted
    ) -> None:
        """Refuse what the caller may not continue or refer to, and what something is withheld from where the policy says `refuse`."""
        count = len(recalled.earlier)
        if request.previous_response_id is not None and count and not any(position in admitted.items for position in range(count)):
            raise no_previous(request.previous_response_id)  # not one item may be reused: to this caller the chain does not exist
        for position, (item, _) in enumerate(left.items[count:], start=count):
            if position not in admitted.items:
                raise no_item(item.id)
        if left.withheld == 0:
            return
        last = (
            recalled.earlier[-1].holder
            if recalled.earlier
            else {**_REQUEST, "tenant": context.principal.tenant, "owner": context.principal.id}
        )
        on_deny = await self.enforcer.value(context, "regate/history/on_deny", "history.reuse", {"item": last})
        await self.enforcer.record(context, "history.withheld", {"kind": "withheld", "count": left.withheld, "on_deny": on_deny})
        if on_deny != "redact":
            message = "The policy does not permit continuing this conversation: part of it is no longer available to you."
            raise NotPermitted(message, param="previous_response_id" if recalled.earlier else "input")

    async def _earlier(
        self, context: Context, item: StoredItem, shown: bool, left: Readmitted, files: Mapping[FileId, FileRow], traits: UpstreamTraits
    ) -> PromptItem:
        """Return an item of the history for the prompt; a file in it that may no longer be read is left out of its message."""
        prompted = prompt_item(item, shown, left.refs)
        if not shown:
            return prompted
        if item.body["type"] == "compaction":
            return replace(prompted, text=unseal(self.sealer, item.body, tenant=context.principal.tenant, model="").text)
        parts = await self.parts.earlier(item.body, files, traits)
        return replace(prompted, parts=parts) if parts else prompted

    async def _current(
        self,
        request: ResponseRequest,
        sent: Sequence[JsonObject | HeldItem],
        readmitted: Sequence[tuple[StoredItem, bool]],
        left: Readmitted,
        files: Mapping[FileId, FileRow],
        traits: UpstreamTraits,
    ) -> tuple[list[PromptItem], list[StoredItem]]:
        """Return the request's items for the prompt, and as they are stored. Raises `NotFound` for a file that may not be read."""
        prompted: list[PromptItem] = []
        inputs: list[StoredItem] = []
        held = iter(readmitted)
        for one in sent:
            if not isinstance(one, HeldItem):
                prompted.append(PromptItem(one, parts=await self.parts.current(one, files, traits)))
                inputs.append(StoredItem(cast("str", one["id"]), one, "input"))
                continue
            item, shown = next(held)
            text = self._text(item, one, request) if shown else ""
            parts = await self.parts.earlier(item.body, files, traits) if shown else ()
            prompted.append(replace(prompt_item(item, shown, left.refs), text=text, parts=parts))
            inputs.append(one.item)
        return prompted, inputs

    def _text(self, item: StoredItem, one: HeldItem, request: ResponseRequest) -> str:
        """Return what is sealed in an item. Reasoning that is referred to is there as it was written, for whichever model."""
        sealed = item.body["type"] == "compaction" or (item.body["type"] == "reasoning" and one.holder["kind"] == "request")
        if not sealed or not item.body.get("encrypted_content"):
            return ""
        return unseal(self.sealer, item.body, tenant=cast("str", one.holder["tenant"]), model=request.model).text


async def live_batch(context: Context, history: History, *, state: StateStore, retrieval: Retrieval) -> tuple[Batch, list[ChunkKey]]:
    """Return the batch that decides a history on what is true now: which files are still attached, and with which stamps."""
    live = await state.live(context.principal, history.pairs) if history.pairs else {}
    stores = await retrieval.candidates_to_open(context, list(dict.fromkeys(store for store, _ in history.pairs)))
    return batch_of(history, live, {store: found.view for store, found in stores.items()})


def tool_view(kind: str, name: str, arguments: JsonObject | None = None) -> JsonObject:
    """Return a tool, or a call of it, as policies see it (`rego/schemas/input/tool_call.json`)."""
    return {"type": kind, "server_label": "", "name": name, "arguments": arguments or {}, "side_effect": False}


def no_previous(response: str) -> NotFound:
    """Return the one error for a response that cannot be continued from: absent, foreign, and no longer permitted alike."""
    message = f"Previous response with id '{response}' not found."
    return NotFound(message, param="previous_response_id", code="previous_response_not_found")


def no_item(identifier: str, *, param: str = "input") -> NotFound:
    """Return the one error for an item that cannot be referred to: absent, foreign, and no longer permitted alike."""
    return NotFound(f"Item with id '{identifier}' not found.", param=param, code="not_found")


def _route(request: ResponseRequest) -> JsonObject:
    return {
        "method": "POST",
        "path": "/v1/responses",
        "model": request.model,
        "stream": request.stream,
        "tool_types": list(request.tool_types),
    }


def tool_result(item: JsonObject) -> JsonObject:
    """Return the output of a client's tool as policies see it: its size, never its text."""
    size = len(output_text(item["output"]).encode("utf-8", "replace"))
    return {"tool": tool_view("function", ""), "result": {"mime": "text/plain", "size": size, "labels": []}}


def _file_question(parts: MessageParts, file: FileId, row: FileRow | None) -> Question:
    return Question(Point.FILE, "file.read", {"file": {"id": ""} if row is None else parts.view(row)}, about=file)
