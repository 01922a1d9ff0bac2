"""Prompts in the state store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from regate_orchestrator.filters.expression import FilterPlan
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import Page, PromptRow, PromptVersion, Rows
from regate_orchestrator.values import JsonObject, PromptId


class PromptState(Protocol):
    """Keeps prompts and their versions."""

    async def add(self, row: PromptRow, first: PromptVersion) -> None:
        """Store a new prompt with its first version."""
        ...

    async def get(self, principal: Principal, prompt: PromptId) -> PromptRow | None:
        """Return the prompt's row."""
        ...

    async def page(self, principal: Principal, plan: FilterPlan, page: Page) -> Rows[PromptRow]:
        """Return a page of the prompt rows that the plan permits."""
        ...

    async def update(
        self, principal: Principal, prompt: PromptId, *, name: str | None, default_version: int | None
    ) -> PromptRow | None:
        """Change what is given and return the row as it is then; None when absent or invisible. Raises
        `InvalidRequest` for a version it lacks.
        """
        ...

    async def delete(self, principal: Principal, prompt: PromptId) -> bool:
        """Delete the prompt's row and all its versions."""
        ...

    async def add_version(
        self,
        principal: Principal,
        prompt: PromptId,
        *,
        template: JsonObject,
        variables: Sequence[str],
        created_at: int,
    ) -> PromptVersion | None:
        """Store the principal's template as the next version and return it; None when the prompt is absent or
        invisible.

        Of versions that are added at once each must get a number of its own. The default version stays what
        it is.
        """
        ...

    async def version(self, principal: Principal, prompt: PromptId, version: int) -> PromptVersion | None:
        """Return one version of the prompt; None when either is absent or invisible."""
        ...

    async def versions(self, principal: Principal, prompt: PromptId, page: Page) -> Rows[PromptVersion]:
        """Return a page of the prompt's versions by number, which is their id here; an absent or
        invisible prompt has none.
        """
        ...
