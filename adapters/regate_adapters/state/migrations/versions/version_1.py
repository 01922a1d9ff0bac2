"""The tables as they were before there were migrations. The first of the line: nothing leads here."""

from __future__ import annotations

revision = "version_1"
down_revision = None
