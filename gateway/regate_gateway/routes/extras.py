"""Fields that only some backends know: the operator lists them for an upstream
(`upstreams[].extra_fields`), and they are passed on as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field

from regate_gateway.http.misfits import NO_HINTS, Hint, require_known
from regate_gateway.routes.field_hints import EXTRA_FIELDS
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.values import Json


@dataclass(slots=True)
class Extras:
    """Members beyond the known ones that some upstream is said to take, wherever in a request. Which
    one serves is known only later.
    """

    listed: frozenset[str]
    taken: list[tuple[str, str]] = field(default_factory=list)
    """The place and the name of each."""

    def of(
        self,
        values: Mapping[str, Json],
        known: Set[str],
        *,
        path: str = "",
        hints: Mapping[str, Hint] = NO_HINTS,
    ) -> dict[str, Json]:
        """Return the object's members beyond the known ones, as they are. Raises `InvalidRequest` for
        one that no upstream is said to take.
        """
        if values.keys() <= known:  # as nearly always
            return {}
        require_known(values, {*known, *self.listed}, path=path, hints=hints, otherwise=EXTRA_FIELDS)
        found: dict[str, Json] = {
            name: value for name, value in values.items() if name not in known and value is not None
        }
        self.taken += [(f"{path}.{name}" if path else name, name) for name in found]
        return found

    def require(self, takes: Collection[str]) -> None:
        """Raise `InvalidRequest` for what the upstream that serves the request is not said to take."""
        for place, name in self.taken:
            if name not in takes:
                message = (
                    f"Unknown parameter: '{place}'. The backend of this model is not said to take it. "
                    f"{EXTRA_FIELDS}"
                )
                raise InvalidRequest(message, param=place, code="unknown_parameter")
