"""What is stored of a file, for whoever asks why somebody does not find it: its stamp in a vector store, from
the gateway's own database.

Looked up within the tenant of the principal that is asked about, as a search is. Only read; the gateway may
be running.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from regate_adapters.state.database import examine
from regate_adapters.state.store import SqlStateStore
from regate_gateway.config.settings import Settings
from regate_gateway.config.state_settings import server_options, state_url
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import StateStore
from regate_orchestrator.principal import Principal
from regate_orchestrator.values import FileId, JsonObject, StoreId


@dataclass(frozen=True, slots=True)
class StoredFile:
    """The policy fields of a file's chunks and of the store that they are in; and what keeps them from
    being found, whatever policy says.
    """

    chunk: JsonObject
    store: JsonObject
    problem: str | None


class NotThere(Exception):
    """Nobody of the tenant can find the file, or it is not said in which store; `words` say which, for
    whoever may ask.
    """

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.words = words


async def stored_file(
    settings: Settings,
    principal: Principal,
    file: FileId,
    store: StoreId | None,
    schemas: Mapping[str, RowSchema],
) -> StoredFile:
    """Return the file as the gateway's own database has it. Raises `ConfigurationError` where there is
    none, or nobody of the tenant can find it.
    """
    setting, url = state_url(settings.state)
    server = server_options(settings.state)
    found = await examine(url, setting=setting, row_security=server.row_security)
    if "tables of this version" not in found:
        raise ConfigurationError(f"{setting}: there is nothing to look at: {found}")
    async with SqlStateStore.open(url, setting=setting, server=server) as state:
        try:
            return await find_stored(state, principal, file, store, schemas)
        except NotThere as error:
            raise ConfigurationError(error.words) from error


async def find_stored(
    state: StateStore,
    principal: Principal,
    file: FileId,
    store: StoreId | None,
    schemas: Mapping[str, RowSchema],
) -> StoredFile:
    """Return the file as it is in the store, or in the only one that it is in. Raises `NotThere`."""
    if await state.files.get(principal, file) is None:
        raise NotThere(
            f"the tenant {principal.tenant} has no file {file}: another tenant's is never found, an "
            "expired one is gone"
        )
    stores = await state.attachments.stores_holding(principal, file)
    if store is None and len(stores) != 1:
        where = (
            f"several vector stores: say in which (store): {', '.join(stores)}"
            if stores
            else "no vector store, so no search finds it"
        )
        raise NotThere(f"the file {file} is in {where}")
    chosen = stores[0] if store is None else store
    attachment, row = (
        await state.attachments.get(principal, chosen, file),
        await state.vector_stores.get(principal, chosen),
    )
    if attachment is None or row is None:
        raise NotThere(
            f"the file {file} is not in {chosen}, or that is no vector store that the tenant "
            f"{principal.tenant} can use"
        )
    ended = f": {attachment.error_message}" if attachment.error_message else ""
    problem = (
        None
        if attachment.status == "completed"
        else f"its ingestion is {attachment.status}{ended}, so no search finds it yet"
    )
    return StoredFile(
        attachment.stamp, schemas["store"].canonical({**row.stamp, "id": row.id, "name": row.name}), problem
    )
