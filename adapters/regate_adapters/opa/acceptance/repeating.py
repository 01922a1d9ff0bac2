"""What a filter may not call: builtins that answer differently each time, since a filter that is made
with them ages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from regate_adapters.opa.acceptance.findings import Finding
from regate_adapters.opa.acceptance.nodes import call_in, is_call, nodes, operator_of, row_of
from regate_adapters.opa.acceptance.syntax import Definition

_UNREPEATABLE: Final[Mapping[str, str]] = {
    "time.now_ns": "use input.now, in epoch seconds",
    "http.send": "put what it would fetch into data, or into the token's claims (regate.custom.authn.attrs)",
    "net.lookup_ip_addr": "put what it would look up into data",
    "rand.intn": "a filter is the same for all that are asked in its time; decide by something in input",
    "uuid.rfc4122": "decide by an identifier that is in input",
    "opa.runtime": "put what it would read into data",
}
"""What answers differently each time, and what to write instead."""


def unrepeatable(definition: Definition) -> Iterator[Finding]:
    """Yield each call in the definition that answers differently each time."""
    for node in nodes(
        [definition.node.get("body"), definition.node.get("else"), definition.head.get("value")]
    ):
        terms = call_in(node)
        if terms is not None and is_call(terms, *_UNREPEATABLE):
            operator = operator_of(terms)
            message = (
                f"{operator} answers differently each time, so a filter made with it ages: "
                f"{_UNREPEATABLE[operator]}"
            )
            yield Finding("wall-clock", message, definition.module.file, row_of(node, definition.row))
