"""Migrations of the state store's tables: how a database of an earlier program becomes one of this program,
with all its rows.

Adding one, with each change of `tables.py`:

1. Add `versions/<name>.py` with `revision = "<name>"`, `down_revision = "<the present tables.REVISION>"` and
   `upgrade(op)`, and set `tables.REVISION` to the name. When another migration landed first, name that one as
   `down_revision` in its place: a line has one head.
2. `op` is Alembic's `Operations`. Constraints and indexes are named by the convention (pass `None`); shared
   types are `column_types.py`'s. Import nothing else of ours: the tables will change, a migration never does.
   A new column comes last and is nullable or has a `server_default`, in `tables.py` as well.
3. `tests/adapters/state/test_migrations.py` compares an upgraded database with a new one, and fails for two
   heads.

All steps run in one transaction that excludes every other writer. In PostgreSQL the wall between tenants is
down in it, and drawn anew at its end: a new table joins `state/walls/policies.py`. There is no way down: an
operator restores the backup. Foreign keys are not enforced in SQLite meanwhile (a rebuilt table would
cascade) but checked at the end.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.script.revision import ResolutionError
from alembic.util import CommandError
from sqlalchemy import Connection, update

from regate_adapters.state.tables import REVISION, metadata, schema_revision
from regate_orchestrator.errors import ConfigurationError

_log = logging.getLogger("regate.state")

SCRIPTS: Final = ScriptDirectory(Path(__file__).parent)


def upgrade(connection: Connection, present: str, *, place: str) -> None:
    """Bring the tables from the present revision to the newest. Raises `ConfigurationError` for a
    revision that this program does not know.
    """
    steps = later_than(present, place=place)
    operations = Operations(MigrationContext.configure(connection, opts={"target_metadata": metadata}))
    for step in reversed(steps):
        step.module.upgrade(operations)
    connection.execute(update(schema_revision).values(revision=REVISION))
    _log.info("upgraded the state database", extra={"from_revision": present, "to_revision": REVISION})


def later_than(present: str, *, place: str) -> list[Script]:
    """Return the steps from this revision on, the newest first. Raises `ConfigurationError` for a
    revision that this program does not know.
    """
    try:
        return list(SCRIPTS.iterate_revisions(REVISION, present))
    except (CommandError, ResolutionError) as error:
        raise ConfigurationError(
            f"{place} was upgraded to {present!r} by a later version of regate"
        ) from error
