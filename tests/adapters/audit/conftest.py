from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the log is kept; made by the log itself."""
    return tmp_path / "audit"
