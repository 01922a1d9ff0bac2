"""Searches on behalf of the members, with the time that each took, and whose the files are that they find."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from regate_gateway.evaluation.canaries import Canary, Tell
from regate_gateway.evaluation.member import Answer, Hit, Member, Refused
from regate_gateway.evaluation.questions import Question

NOT_SERVED: Final = "search_mode_not_supported"


@dataclass(slots=True)
class Asker:
    """Searches as any of the members, and keeps how long each search took, by mode."""

    members: Mapping[str, Member]
    tell: Tell
    milliseconds: dict[str, list[float]] = field(default_factory=dict)

    async def ask(
        self, tenant: str, store: str, query: str, mode: str, filters: Mapping[str, Any] | None = None
    ) -> Answer:
        """Return what the tenant's member finds. Raises `Refused`."""
        answer = await self.members[tenant].search(store, query, mode=mode, filters=filters)
        self.milliseconds.setdefault(mode, []).append(answer.milliseconds)
        return answer

    async def served(
        self, modes: Sequence[str], questions: Iterable[Question]
    ) -> tuple[list[str], list[str]]:
        """Return those of the modes that all stores of the questions serve, and of the others why not."""
        places = {question.store: question for question in questions}.values()
        kept, notes = [], []
        for mode in modes:
            try:
                for question in places:
                    await self.members[question.tenant].search(question.store, question.query, mode=mode)
            except Refused as refusal:
                if refusal.code != NOT_SERVED:
                    raise
                notes.append(f"Mode {mode} was not measured: {refusal}")
            else:
                kept.append(mode)
        return kept, notes


@dataclass(slots=True)
class Ownership:
    """Whose each file is: by its id, as each member's list of files tells, or as it was uploaded here; else
    by its name, where questions name it. The searches that are judged say nothing of it.
    """

    tenants: dict[str, set[str]] = field(default_factory=dict)
    names: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    async def learned(
        cls, members: Mapping[str, Member], questions: Sequence[Question], canaries: Sequence[Canary]
    ) -> Ownership:
        """Return what the members' lists of files, the questions and the canaries say."""
        found = cls()
        for canary in canaries:
            found.tenants.setdefault(canary.file_id, set()).add(canary.tenant)
        if questions:
            for tenant, member in members.items():
                async for file in member.newest("files"):
                    found.tenants.setdefault(file["id"], set()).add(tenant)
        for question in questions:
            for name in question.files:
                found.names.setdefault(name, set()).add(question.tenant)
        return found

    def owners(self, hit: Hit) -> set[str]:
        """Return the tenants whose file it is; none where it is not known."""
        return self.tenants.get(hit.file_id) or self.names.get(hit.filename, set())

    def is_foreign(self, hit: Hit, tenant: str) -> bool:
        """Return whether the file is another tenant's. One that two tenants list is so for both."""
        owners = self.owners(hit)
        by_id = hit.file_id in self.tenants
        return owners != {tenant} if by_id else bool(owners) and tenant not in owners
