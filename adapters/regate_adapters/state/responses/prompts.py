"""Prompts and their versions in the state store. Versions are only ever added, so that a version once
named means one template for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    String,
    cast,
    delete,
    insert,
    literal,
    select,
    update,
)

from regate_adapters.state.database import Database
from regate_adapters.state.encoding import (
    encode,
    prompt_columns,
    prompt_row,
    prompt_version_columns,
    prompt_version_row,
)
from regate_adapters.state.filters.row_filter import RowShape
from regate_adapters.state.listing import Listing, page_of
from regate_adapters.state.ordinals import next_ordinal
from regate_adapters.state.tables import prompt_versions, prompts
from regate_adapters.state.visibility import named, within
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.filters.expression import Everything, FilterPlan
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import Page, PromptRow, PromptVersion, Rows
from regate_orchestrator.values import JsonObject, PromptId

_SHAPE: Final = RowShape(
    texts={"id": prompts.c.id, "name": prompts.c.name, "tenant": prompts.c.tenant, "owner": prompts.c.owner},
    numbers={},
    document=prompts.c.stamp,
)
"""A prompt as `regate.prompt` sees it: its id and name, and its stamp."""

_NO_FIELDS: Final = RowShape(texts={}, numbers={}, document=literal(encode({})))
"""Versions are decided on by their prompt: no filter looks into them."""


class PromptState:
    """The part of the state store that keeps prompts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: PromptRow, first: PromptVersion) -> None:
        """Store a new prompt with its first version; raises `InvalidRequest` for a name that no
        database can hold.
        """
        columns = prompt_columns(row)
        async with self._database.writing(str(columns["tenant"])) as connection:
            ordinal = await next_ordinal(self._database, connection, prompts)
            await connection.execute(insert(prompts).values(**columns, ordinal=ordinal))
            await connection.execute(insert(prompt_versions).values(prompt_version_columns(first)))

    async def get(self, principal: Principal, prompt: PromptId) -> PromptRow | None:
        """Return the prompt's row."""
        async with self._database.reading(principal.tenant) as connection:
            row = (await connection.execute(select(prompts).where(_own(principal, prompt)))).one_or_none()
        return None if row is None else prompt_row(row)

    async def page(self, principal: Principal, plan: FilterPlan, page: Page) -> Rows[PromptRow]:
        """Return a page of the prompt rows that the plan permits."""
        listing = Listing(
            principal.tenant,
            prompts.c.id,
            prompts.c.ordinal,
            floor=within(prompts.c.tenant, principal.tenant),
            shape=_SHAPE,
        )
        return await page_of(self._database, listing, select(prompts), plan=plan, page=page, read=prompt_row)

    async def update(
        self, principal: Principal, prompt: PromptId, *, name: str | None, default_version: int | None
    ) -> PromptRow | None:
        """Change the name, the default version, or both, and return the row as it is then."""
        async with self._database.writing(principal.tenant) as connection:
            # Locked first: of two changes at once the second sees the first one's row.
            found = (await connection.execute(_locked(principal, prompt))).one_or_none()
            if found is None:
                return None
            row = prompt_row(found)
            if default_version is not None and not 1 <= default_version <= row.latest_version:
                raise InvalidRequest(
                    "'default_version' must be a version of this prompt.",
                    param="default_version",
                    code="invalid_value",
                )
            row = replace(
                row,
                name=row.name if name is None else name,
                default_version=default_version or row.default_version,
            )
            columns = prompt_columns(row)
            changes = {column: columns[column] for column in ("name", "default_version")}
            await connection.execute(update(prompts).where(prompts.c.id == row.id).values(changes))
        return row

    async def delete(self, principal: Principal, prompt: PromptId) -> bool:
        """Delete the prompt and, by their foreign key, its versions."""
        async with self._database.writing(principal.tenant) as connection:
            deleted = await connection.execute(delete(prompts).where(_own(principal, prompt)))
        return deleted.rowcount > 0

    async def add_version(
        self,
        principal: Principal,
        prompt: PromptId,
        *,
        template: JsonObject,
        variables: Sequence[str],
        created_at: int,
    ) -> PromptVersion | None:
        """Store the template as the next version. The prompt's row is locked meanwhile, so that each
        number is given once.
        """
        async with self._database.writing(principal.tenant) as connection:
            found = (await connection.execute(_locked(principal, prompt))).one_or_none()
            if found is None:
                return None
            number = prompt_row(found).latest_version + 1
            added = PromptVersion(prompt, number, created_at, principal.id, template, tuple(variables))
            await connection.execute(insert(prompt_versions).values(prompt_version_columns(added)))
            await connection.execute(
                update(prompts).where(prompts.c.id == prompt).values(latest_version=number)
            )
        return added

    async def version(self, principal: Principal, prompt: PromptId, version: int) -> PromptVersion | None:
        """Return one version of the prompt."""
        this = prompt_versions.c.version == literal(
            version, BigInteger
        )  # what callers ask for may be wider than the column
        async with self._database.reading(principal.tenant) as connection:
            wanted = select(prompt_versions).where(_of(principal, prompt), this)
            row = (await connection.execute(wanted)).one_or_none()
        return None if row is None else prompt_version_row(row)

    async def versions(self, principal: Principal, prompt: PromptId, page: Page) -> Rows[PromptVersion]:
        """Return a page of the prompt's versions by number."""
        number = prompt_versions.c.version
        listing = Listing(
            principal.tenant, cast(number, String), number, floor=_of(principal, prompt), shape=_NO_FIELDS
        )
        return await page_of(
            self._database,
            listing,
            select(prompt_versions),
            plan=Everything(),
            page=page,
            read=prompt_version_row,
        )


def _own(principal: Principal, prompt: PromptId) -> ColumnElement[bool]:
    return named(prompts.c.id, prompt) & within(prompts.c.tenant, principal.tenant)


def _locked(principal: Principal, prompt: PromptId) -> Select[Any]:
    return select(prompts).where(_own(principal, prompt)).with_for_update()


def _of(principal: Principal, prompt: PromptId) -> ColumnElement[bool]:
    """Return the condition that a version is one of this prompt, which the principal's tenant has."""
    return prompt_versions.c.prompt_id.in_(select(prompts.c.id).where(_own(principal, prompt)))
