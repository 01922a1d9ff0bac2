"""What is measured of answers to questions: how well they rank, and whether they hold what is another's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from regate_gateway.evaluation.asking import Asker, Ownership
from regate_gateway.evaluation.figures import Leak, Probes, Quality
from regate_gateway.evaluation.measures import mean, ndcg, recall, reciprocal_rank, upper_bound
from regate_gateway.evaluation.member import Answer, Refused
from regate_gateway.evaluation.questions import Question

_CLOSED: Final = frozenset({403, 404})
_SHOWN: Final = 20


class LeakCounter:
    """Judges the hits of searches."""

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership
        self.kinds = {kind: Probes(kind) for kind in ("others", "own")}
        self.leaks: list[Leak] = []

    def judge(self, kind: str, searcher: str, query: str, mode: str, answer: Answer | None) -> None:
        """Count a search, and each hit that is another tenant's. None is a store that is closed to the
        searcher.
        """
        probes = self.kinds[kind]
        probes.probes += 1
        foreign = []
        for hit in () if answer is None else answer.hits:
            owners = self._ownership.owners(hit)
            probes.hits += 1
            probes.unattributed += not owners
            if self._ownership.is_foreign(hit, searcher):
                foreign.append(Leak(searcher, sorted(owners), mode, query, hit.file_id, hit.filename))
        probes.leaks += bool(foreign)
        self.leaks += foreign[: _SHOWN - len(self.leaks)]

    def counted(self) -> list[Probes]:
        """Return the counts of the kinds of which there were any, each with its bound."""
        found = [one for one in self.kinds.values() if one.probes]
        for one in found:
            one.upper_bound = upper_bound(one.leaks, one.probes)
        return found


async def quality(
    asker: Asker, questions: Sequence[Question], modes: Sequence[str], counter: LeakCounter
) -> list[Quality]:
    """Return how well each tenant's questions are answered, and all together."""
    found = []
    for mode in modes:
        scores: dict[str, list[tuple[float, ...]]] = {}
        for number, question in enumerate(questions):
            asker.tell(f"{number:,} of {len(questions):,} questions are asked ({mode})")
            answer = await asker.ask(question.tenant, question.store, question.query, mode)
            counter.judge("own", question.tenant, question.query, mode, answer)
            scores.setdefault(question.tenant, []).append(_scores(answer, question))
        everybody = [score for of_tenant in scores.values() for score in of_tenant]
        for tenant, each in [(None, everybody), *sorted(scores.items())]:
            found.append(
                Quality(tenant, mode, len(each), *(mean(column) for column in zip(*each, strict=True)))
            )
    return found


async def probe(
    asker: Asker, questions: Sequence[Question], modes: Sequence[str], counter: LeakCounter
) -> None:
    """Have each tenant ask every other tenant's questions, of the store where they are answered."""
    searches = [
        (mode, question, tenant)
        for mode in modes
        for question in questions
        for tenant in asker.members
        if tenant != question.tenant
    ]
    for number, (mode, question, tenant) in enumerate(searches):
        asker.tell(f"{number:,} of {len(searches):,} searches for what is another's are made")
        answer: Answer | None = None
        try:
            answer = await asker.ask(tenant, question.store, question.query, mode)
        except Refused as refusal:
            if refusal.status not in _CLOSED:
                raise
        counter.judge("others", tenant, question.query, mode, answer)


def _scores(answer: Answer, question: Question) -> tuple[float, ...]:
    names, wanted = answer.names, question.files
    return (
        *(recall(names, wanted, cutoff) for cutoff in (1, 5, 10)),
        reciprocal_rank(names, wanted),
        ndcg(names, wanted),
    )
