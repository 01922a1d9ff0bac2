"""The machine's diagram, drawn from its table: `python -m regate_orchestrator.responses.diagram`
prints what docs/responses.md holds.
"""

from __future__ import annotations

from collections.abc import Iterator

from regate_orchestrator.model_events import ModelFailed
from regate_orchestrator.responses.events import ClientLeft, Failed
from regate_orchestrator.responses.machine import TRANSITIONS

_ANYWHERE = (Failed, ModelFailed, ClientLeft)


def diagram() -> str:
    """Return the diagram in Mermaid's language: a phase a node, the events that lead on as edges. How
    runs break off is told in words.
    """
    return "\n".join(["stateDiagram-v2", "    [*] --> IDLE", *sorted(_edges()), "    ENDED --> [*]"])


def _edges() -> Iterator[str]:
    for phase, expected in TRANSITIONS.items():
        targets: dict[str, list[str]] = {}
        for event, following in expected.items():
            for target in following if event not in _ANYWHERE else ():
                targets.setdefault(target.name, []).append(event.__name__)
        for name, events in targets.items():
            yield f"    {phase.name} --> {name}: {', '.join(events)}"


if __name__ == "__main__":
    print(diagram())  # noqa: T201 — a command
