"""Whether an upstream can be reached, as far as its latest connections say. Pure; `upstream_client.py` tells
it what happened, `upstreams.py` asks anew.

Only connections open the circuit, never answers: an upstream that answers with an error is reached, and what
it refuses is the request's own matter. Two answers are told of all the same, for the operator alone can mend
what they say: that the key is refused, and that there is no list of models at this address.
After three connections in a row that did not come about the circuit is open: requests fail at once, or go to
an alternate. A trial every few seconds closes it again; without one it closes by itself after ten seconds.
"""

from __future__ import annotations

import math
from typing import Final, Literal

from regate_orchestrator.values import Clock

FAILURES: Final = 3
OPEN_SECONDS: Final = 10.0
FRESH_SECONDS: Final = 30.0

Trouble = Literal["denied", "no_models"]
Reach = Literal["ok", "unreachable", "unknown", "denied", "no_models"]
"""`denied`: the upstream answers, and does not accept the key. `no_models`: it answers that it has no
list of models.
"""


class Health:
    """The circuit of one upstream."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._last: bool | None = None
        self._trouble: Trouble | None = None
        self._heard_at = float("-inf")

    @property
    def reach(self) -> Reach:
        """Return how the latest connection went."""
        if self._last is None:
            return "unknown"
        return (self._trouble or "ok") if self._last else "unreachable"

    @property
    def is_open(self) -> bool:
        """Return whether requests must not wait for this upstream now."""
        return self._failures >= FAILURES and self._clock() - self._heard_at < OPEN_SECONDS

    @property
    def in_trouble(self) -> bool:
        """Return whether the circuit was opened and the upstream has not been reached since."""
        return self._failures >= FAILURES

    @property
    def is_stale(self) -> bool:
        """Return whether nothing was heard for so long that it says little of now."""
        return self._clock() - self._heard_at >= FRESH_SECONDS

    @property
    def retry_after(self) -> str:
        """Return after how many whole seconds it may be worth asking again."""
        return str(max(1, math.ceil(OPEN_SECONDS - (self._clock() - self._heard_at))))

    def reached(self) -> bool:
        """Note an answer of any kind; return whether this ended a trouble."""
        recovered = self.in_trouble
        self._failures, self._last, self._heard_at = 0, True, self._clock()
        return recovered

    def met(self, trouble: Trouble) -> bool:
        """Note what only the operator can mend; return whether it is new."""
        before, self._trouble = self._trouble, trouble
        return before != trouble

    def mended(self, trouble: Trouble) -> bool:
        """Note an answer that shows that this trouble is over; return whether it was there."""
        if self._trouble != trouble:
            return False
        self._trouble = None
        return True

    def not_reached(self) -> bool:
        """Note a connection that did not come about; return whether this began a trouble."""
        self._failures += 1
        self._last, self._heard_at = False, self._clock()
        return self._failures == FAILURES
