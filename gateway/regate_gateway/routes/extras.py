"""Fields that only some backends know: the operator lists them for an upstream
(`upstreams[].extra_fields`), and they are passed on as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field

from regate_gateway.http.fields import Fields
from regate_gateway.http.misfits import Hint
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
        self, fields: Fields, known: Set[str], *, hints: Mapping[str, Hint] | None = None
    ) -> dict[str, Json]:
        """Return the object's members beyond the known ones, as they are. Raises `InvalidRequest` for
        one that no upstream is said to take.
        """
        if fields.values.keys() <= known:  # as nearly always
            return {}
        fields.refuse_unknown({*known, *self.listed}, hints=hints or {}, otherwise=EXTRA_FIELDS)
        found: dict[str, Json] = {
            name: value for name, value in fields.values.items() if name not in known and value is not None
        }
        self.taken += [(fields.param(name), name) for name in found]
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
