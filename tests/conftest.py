"""What holds for every test: random examples end by their number, never by a clock, and leave nothing in the checkout."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# On top of hypothesis's own default, which in CI draws the same examples each time.
settings.register_profile("regate", settings(), deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("regate")
