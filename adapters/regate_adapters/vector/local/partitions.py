"""The partitions that were searched last, in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from regate_adapters.vector.guard import tenant_of
from regate_adapters.vector.local.schema import Connection
from regate_adapters.vector.local.scope import Scope, ScopeReader, scope_of
from regate_adapters.vector.local.writing import Place
from regate_adapters.vector.partition.partition import Partition
from regate_adapters.vector.partition.ranking import Ranked, ranked
from regate_adapters.vector.partition.vectors import Holding, Matrix
from regate_orchestrator.filters.expression import Expression
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import Query

MEMORY: Final = 512 << 20


class Partitions:
    """Searches in memory. At most `memory` bytes of what was searched are kept there between searches;
    vectors are held as `holding` says.
    """

    def __init__(self, schema: RowSchema, *, memory: int = MEMORY, holding: Holding = Matrix) -> None:
        self._schema = schema
        self._memory = memory
        self._holding = holding
        self._partitions: OrderedDict[Scope, Partition] = OrderedDict()
        self._lock = threading.Lock()
        self._kept = 0
        self._loading: dict[Scope, threading.Lock] = {}

    def ranked(self, connection: Connection, place: Place, expression: Expression, query: Query) -> Ranked:
        """Return the best chunks of the tenant that the expression is confined to, or of the whole store."""
        partition = self._partition_of(connection, place, tenant_of(expression))
        return ranked(partition, expression, query)

    def _partition_of(self, connection: Connection, place: Place, tenant: str | None) -> Partition:
        """Return the chunks of the tenant, or of the whole store, as they are now."""
        found = scope_of(connection, place, tenant)
        if found is None:
            return Partition.empty(place.dimensions, self._holding)
        scope, changes = found
        known = self._partitions.get(scope)
        if known is None or not known.changes.are_after(changes):
            with self._lock:
                loading = self._loading.setdefault(scope, threading.Lock())
            with loading:  # one thread reads it, for all that wait
                known = self._partitions.get(scope)
                if known is None:
                    known = Partition.empty(place.dimensions, self._holding)
                if not known.changes.are_after(changes):
                    known = known.refreshed(ScopeReader(connection, scope, self._schema), changes)
        self._keep(scope, known)
        return known

    def _keep(self, scope: Scope, partition: Partition) -> None:
        """Keep the partition in memory, and let go of those that were searched longest ago beyond its
        bound. One that is larger than the bound by itself is not kept: whoever has much costs nobody else
        theirs.
        """
        with self._lock:
            before = self._partitions.get(scope)
            if before is not partition:
                if before is not None:
                    self._kept -= self._partitions.pop(scope).size
                if partition.size > self._memory:
                    return
                self._kept += partition.size
                self._partitions[scope] = partition
            self._partitions.move_to_end(scope)
            while self._kept > self._memory:
                longest_ago, oldest = self._partitions.popitem(last=False)
                self._loading.pop(longest_ago, None)
                self._kept -= oldest.size
