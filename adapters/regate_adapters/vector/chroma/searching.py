"""A search of one Chroma collection, in a thread: which chunks a plan permits, and which of them are nearest.
`store.py`, the counterpart, says when.

Chroma looks at every chunk of the collection once for each condition of a filter. So where a plan confines
the search to a tenant that holds few of the chunks, only that condition is Chroma's, and the others are
tested here, on those chunks: the same are found, sooner.

Up to `exact_up_to` permitted chunks, ranking is exact over the vectors of the permitted chunks alone, so that
other tenants' chunks move nothing. Beyond it Chroma's approximate index chooses the candidates (filtered
inside), and only their scores and order are exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from regate_adapters.vector.chroma.collection import dimensions_of, fetched, nearest, rank, rows_of, stamped
from regate_adapters.vector.chroma.filter import Where
from regate_adapters.vector.chroma.layout import ChromaLayout
from regate_adapters.vector.guard import TENANT, tenant_of
from regate_orchestrator.filters.evaluate import holds
from regate_orchestrator.filters.expression import Expression, FilterPlan, expression_of
from regate_orchestrator.ports import Candidate, Found, Vector

if TYPE_CHECKING:
    from chromadb.api.models.Collection import Collection

EXACT_UP_TO: Final = 20_000
"""Measured on 2 cores with 256 dimensions and everything permitted: 44 ms for 2,000 chunks, 155 for 10,000,
320 for 20,000.

The index took 18, 54 and 82 ms, and answers other tenants' chunks can move: exactness is worth its price up
to here.
"""

ONE_IN: Final = 40
"""Measured with 100,000 chunks and the shipped policy's 14 conditions: 440 ms of processor time in Chroma,
and 0.16 ms for each chunk read.

So reading is cheaper up to one chunk in 36. A search among a tenant's 20 chunks takes 30 ms of processor time
instead of 450.
"""

_TRIES: Final = 3


@dataclass(frozen=True)
class ChromaSearch:
    """How a collection is searched. Ranking is exact up to so many permitted chunks; a tenant's chunks are
    read one by one where they are at most one in so many of all.
    """

    exact_up_to: int
    one_in: int

    def run(
        self,
        collection: Collection,
        layout: ChromaLayout,
        vector: Vector,
        *,
        plan: FilterPlan,
        where: Where,
        limit: int,
    ) -> Found:
        """Return the chunks nearest to the vector among those that the plan permits; `where` is the plan in
        Chroma's own form.
        """
        query = rows_of([vector], dimensions_of(collection))[0]
        for _ in range(_TRIES):
            total = collection.count()
            few = self._of_few(collection, expression_of(plan), layout, total)
            ids: list[str] = (
                collection.get(where=where, limit=self.exact_up_to + 1, include=[])["ids"]
                if few is None
                else few
            )
            # Which way is taken depends on the permitted chunks alone.
            exact = len(ids) <= self.exact_up_to
            chosen = ids if exact else nearest(collection, query, where, limit)
            ranked = rank(collection, chosen, query)
            candidates = tuple(self.candidates(collection, ranked[:limit], plan, where, layout=layout))
            # Chunks that were removed between two reads may have others in their place, which were not there
            # at the first.
            if len(ranked) == len(chosen) and len(candidates) == len(ranked[:limit]):
                break
        return Found(
            candidates,
            total=total,
            permitted=len(ids) if exact else None,
            exhausted=exact and len(ids) <= limit,
        )

    def _of_few(
        self, collection: Collection, expression: Expression, layout: ChromaLayout, total: int
    ) -> list[str] | None:
        """Return the ids of the permitted chunks, or None unless they are among a tenant's that are
        few enough to be read.
        """
        tenant, field = tenant_of(expression), layout.field((TENANT,))
        most = min(total // self.one_in, self.exact_up_to)
        if tenant is None or field is None or most == 0:
            return None
        ids: list[str] = collection.get(
            where={layout.prefix + field.key: {"$eq": tenant}}, limit=most + 1, include=[]
        )["ids"]
        if len(ids) > most:
            return None
        return [identifier for identifier, row in stamped(collection, ids, layout) if holds(expression, row)]

    def candidates(
        self,
        collection: Collection,
        ranked: Sequence[tuple[str, float]],
        plan: FilterPlan,
        where: Where,
        *,
        layout: ChromaLayout,
    ) -> Iterator[Candidate]:
        """Yield the ranked chunks. One may have been replaced, with another stamp, since it was
        listed: then Chroma filters them again.
        """
        if not ranked:
            return
        expression = expression_of(plan)
        candidates = list(fetched(collection, ranked, None, layout))
        if all(holds(expression, layout.row(candidate)) for candidate in candidates):
            yield from candidates
        else:
            yield from fetched(collection, ranked, where, layout)
