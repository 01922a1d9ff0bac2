"""The tables of the pgvector store: how they are made and brought up to date, and the second wall around
their rows. Not what is asked of them.

Everything lies in a schema of its own, so a database may be shared with the state store or with others. All
chunks of one vector length share a table. Row-level security is forced on it: a transaction sees the rows of
the one store that it names, and of the one tenant where it names one; a transaction that names neither sees
nothing. Of all tenants are only those that the garbage collector makes, to remove chunks or list generations.
A superuser would pass any such wall, so its connections act as a plain role.

There is no GIN index on the stamp: behind that wall PostgreSQL may use an index only for operators it knows
to leak nothing, and those of JSON are not among them (seen with EXPLAIN). Equality of text is, so the store
and the tenant lead every index that narrows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, LiteralString

from psycopg import AsyncConnection, AsyncCursor, Error, sql
from psycopg.errors import InsufficientPrivilege
from psycopg.rows import TupleRow

from regate_adapters.postgres import PromptConnection, in_words
from regate_orchestrator.errors import ConfigurationError

STORE_SETTING: Final = "regate.store"
TENANT_SETTING: Final = "regate.tenant"
REACH_SETTING: Final = "regate.reach"

_SCHEMA: Final = "regate_vectors"
_ROLE: Final = sql.Identifier("regate_vectors")
_LOCK: Final = sql.SQL("SELECT pg_catalog.pg_advisory_xact_lock(7164783610294)")
"""Any number will do: it makes two gateways that start at once prepare the database one after the other."""
_OLDEST_EXTENSION: Final = (0, 8)
_MAX_INDEXED: Final = 2_000
"""The longest vectors that pgvector's HNSW takes. Longer ones are always searched exactly."""
_MAX_INLINE: Final = 1_500
"""Vectors up to here stay in the row (6 KB of a page's 8), since reading each from beside the table
costs more than the comparison.
"""

_MIGRATIONS: Final[tuple[tuple[LiteralString, ...], ...]] = (
    (
        """CREATE TABLE regate_vectors.stores (
             id text COLLATE "C" PRIMARY KEY,
             dimensions integer NOT NULL,
             chunks bigint NOT NULL DEFAULT 0)""",
    ),
    (
        "ALTER TABLE regate_vectors.stores ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE regate_vectors.stores FORCE ROW LEVEL SECURITY",
        """CREATE POLICY one_store ON regate_vectors.stores
             USING (id = current_setting('regate.store', true))""",
    ),
    (
        """DO $$ DECLARE one text; BEGIN
             FOR one IN SELECT tablename FROM pg_catalog.pg_tables
               WHERE schemaname = 'regate_vectors' AND tablename ~ '^chunks_[0-9]+$'
             LOOP EXECUTE format('ALTER TABLE regate_vectors.%I ADD COLUMN words bytea,
               ADD COLUMN counts bytea, ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY', one);
             EXECUTE format('CREATE INDEX ON regate_vectors.%I (store, number)', one); END LOOP; END $$""",
        """ALTER TABLE regate_vectors.stores ADD COLUMN added bigint NOT NULL DEFAULT 0,
             ADD COLUMN removed bigint NOT NULL DEFAULT 0""",
        "UPDATE regate_vectors.stores SET added = 1",
    ),
)
"""Version n is reached by the n-th group of statements. A group that was released is never changed;
another is added.
"""

_CHUNK_TABLE: Final[tuple[LiteralString, ...]] = (
    """CREATE TABLE {table} (
         store text COLLATE "C" NOT NULL,
         id text COLLATE "C" NOT NULL,
         file text COLLATE "C" NOT NULL,
         index bigint NOT NULL,
         text text NOT NULL,
         version text COLLATE "C" NOT NULL,
         stamp jsonb NOT NULL CHECK (jsonb_typeof(stamp) = 'object'),
         attributes jsonb NOT NULL CHECK (jsonb_typeof(attributes) = 'object'),
         tenant text COLLATE "C" NOT NULL GENERATED ALWAYS AS (stamp ->> 'tenant') STORED,
         embedding vector({dimensions}) NOT NULL,
         words bytea,
         counts bytea,
         number bigint GENERATED ALWAYS AS IDENTITY,
         PRIMARY KEY (store, id))""",
    # Numbers of words are as good as random, so compressing them takes time and saves nothing.
    "ALTER TABLE {table} ALTER COLUMN words SET STORAGE EXTERNAL",
    "CREATE INDEX ON {table} (store, number)",
    "CREATE INDEX ON {table} (store, tenant)",
    "CREATE INDEX ON {table} (store, file)",
    "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
    """CREATE POLICY one_store ON {table}
         USING (store = current_setting('regate.store', true)
                AND (current_setting('regate.reach', true) = 'store'
                     OR (current_setting('regate.reach', true) = 'tenant'
                         AND tenant = current_setting('regate.tenant', true))))""",
)
_INLINE: Final[LiteralString] = "ALTER TABLE {table} ALTER COLUMN embedding SET STORAGE PLAIN"
_INDEX: Final[LiteralString] = "CREATE INDEX ON {table} USING hnsw (embedding vector_cosine_ops)"

_FIND_EXTENSION: Final = sql.SQL(
    "SELECT e.extversion, n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON "
    "n.oid = e.extnamespace"
    " WHERE e.extname = 'vector'"
)
_FIND_TABLE: Final = sql.SQL(
    "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = 'regate_vectors' AND tablename = {}"
).format(sql.Placeholder())
_WHO: Final = sql.SQL("SELECT rolsuper, rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = current_user")
_MAY: Final = sql.SQL(
    "SELECT s.oid IS NOT NULL,"
    " CASE WHEN s.oid IS NULL THEN has_database_privilege(current_database(), 'CREATE') ELSE "
    "has_schema_privilege(s.oid, 'CREATE') END,"
    " rolsuper OR (SELECT trusted FROM pg_available_extension_versions WHERE name = 'vector' ORDER BY "
    "trusted DESC LIMIT 1)"
    " FROM pg_catalog.pg_roles LEFT JOIN pg_catalog.pg_namespace s ON s.nspname = 'regate_vectors' "
    "WHERE rolname = current_user"
)
"""Whether there is a schema of ours, and whether this user may add what is missing."""
_MAKE_ROLE: Final = sql.SQL(
    "DO $$ BEGIN CREATE ROLE regate_vectors NOLOGIN NOSUPERUSER NOBYPASSRLS; EXCEPTION WHEN "
    "duplicate_object OR unique_violation THEN NULL; END $$"
)


def chunk_table(dimensions: int) -> sql.Identifier:
    """Return the name of the table for chunks of this vector length."""
    return sql.Identifier(_SCHEMA, f"chunks_{dimensions:d}")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What every connection must run first, so that it finds the extension's types and stays behind
    the wall.
    """

    on_connect: tuple[sql.Composed, ...]


async def prepare(parameters: Mapping[str, Any], *, within_s: float) -> Prepared:
    """Bring the database up to date, in one transaction. Raises `ConfigurationError` for one that
    cannot serve or is of a later version.
    """
    async with _connected(parameters, within_s) as connection:
        return await _prepare(connection)


async def examine(parameters: Mapping[str, Any], *, within_s: float) -> str:
    """Return in words what is there. Raises `ConfigurationError` when it cannot serve; changes nothing."""
    async with _connected(parameters, within_s) as connection:
        return await _examine(connection)


@asynccontextmanager
async def _connected(parameters: Mapping[str, Any], within_s: float) -> AsyncIterator[PromptConnection]:
    try:
        async with asyncio.timeout(within_s):
            connection = await PromptConnection.connect(**parameters, autocommit=True, prepare_threshold=None)
            async with connection:
                yield connection
    except (Error, OSError, TimeoutError) as error:
        raise ConfigurationError(
            f"the PostgreSQL database cannot be used: {in_words(error, parameters)}"
        ) from error


async def _prepare(connection: AsyncConnection[Any]) -> Prepared:
    try:
        async with connection.transaction():
            await connection.execute(_LOCK)
            extension_schema = await _extension(connection)
            on_connect = [
                sql.SQL("SET search_path TO {}, {}").format(
                    sql.Identifier(_SCHEMA), sql.Identifier(extension_schema)
                )
            ]
            is_superuser, passes_walls = await _row(connection, _WHO)
            if passes_walls and not is_superuser:
                raise ConfigurationError(
                    "the database user bypasses row-level security; use one that does not"
                )
            await _migrate(connection)
            if is_superuser:
                await _admit_role(connection, extension_schema)
                on_connect.append(sql.SQL("SET ROLE {}").format(_ROLE))
    except InsufficientPrivilege as error:
        raise ConfigurationError(
            f"the database user may not prepare the database ({error.diag.message_primary}): it needs "
            "CREATE on the database (or a schema"
            " regate_vectors of its own), and the extension, which a superuser adds with CREATE "
            "EXTENSION vector"
        ) from error
    return Prepared(tuple(on_connect))


async def _examine(connection: AsyncConnection[Any]) -> str:
    is_superuser, passes_walls = await _row(connection, _WHO)
    if passes_walls and not is_superuser:
        raise ConfigurationError("the database user bypasses row-level security; use one that does not")
    has_schema, may_create, may_extend = await _row(connection, _MAY)
    found = await (await connection.execute(_FIND_EXTENSION)).fetchone()
    if found is None and not may_extend:
        raise ConfigurationError(
            "the extension is missing, which a superuser adds with CREATE EXTENSION vector"
        )
    if found is not None:
        _require_version(found[0])
    if not may_create:
        place = "its schema regate_vectors" if has_schema else "the database"
        raise ConfigurationError(f"the database user needs CREATE on {place}")
    extension = "pgvector, which the first start adds" if found is None else f"pgvector {found[0]}"
    return f"PostgreSQL with {extension}" + (
        "" if has_schema else ", no tables yet, which the first start makes"
    )


async def make_chunk_table(cursor: AsyncCursor[TupleRow], dimensions: int) -> None:
    """Make the table for chunks of this vector length if it is not there, within the cursor's transaction."""
    if await _has_chunk_table(cursor, dimensions):
        return
    await cursor.execute(_LOCK)
    if await _has_chunk_table(cursor, dimensions):
        return
    statements = list(_CHUNK_TABLE)
    statements += [_INLINE] if dimensions <= _MAX_INLINE else []
    statements += [_INDEX] if dimensions <= _MAX_INDEXED else []
    for statement in statements:
        await cursor.execute(
            sql.SQL(statement).format(table=chunk_table(dimensions), dimensions=sql.Literal(dimensions))
        )


async def _has_chunk_table(cursor: AsyncCursor[TupleRow], dimensions: int) -> bool:
    # Read from the table of tables: `to_regclass` would answer from memory what it answered before the lock
    # was waited for.
    await cursor.execute(_FIND_TABLE, [f"chunks_{dimensions:d}"])
    return await cursor.fetchone() is not None


async def _extension(connection: AsyncConnection[Any]) -> str:
    """Return the schema in which the extension's types are; the extension is added if it is missing
    and this user may.
    """
    if await (await connection.execute(_FIND_EXTENSION)).fetchone() is None:
        await connection.execute(sql.SQL("CREATE EXTENSION vector"))
    version, schema = await _row(connection, _FIND_EXTENSION)
    _require_version(version)
    return str(schema)


def _require_version(version: str) -> None:
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_EXTENSION:
        raise ConfigurationError(
            f"pgvector {version} cannot filter inside its index; 0.8.0 or later is needed"
        )


async def _migrate(connection: AsyncConnection[Any]) -> None:
    (is_there,) = await _row(
        connection, sql.SQL("SELECT pg_catalog.to_regclass('regate_vectors.schema_version') IS NOT NULL")
    )
    if not is_there:
        (has_schema,) = await _row(
            connection, sql.SQL("SELECT pg_catalog.to_regnamespace('regate_vectors') IS NOT NULL")
        )
        if not has_schema:
            await connection.execute(sql.SQL("CREATE SCHEMA regate_vectors"))
        await connection.execute(
            sql.SQL("CREATE TABLE regate_vectors.schema_version (version integer PRIMARY KEY)")
        )
    (present,) = await _row(
        connection, sql.SQL("SELECT coalesce(max(version), 0) FROM regate_vectors.schema_version")
    )
    if present > len(_MIGRATIONS):
        raise ConfigurationError(
            f"its vector tables are of version {present}, and this program knows {len(_MIGRATIONS)} at most"
        )
    for version in range(present, len(_MIGRATIONS)):
        for statement in _MIGRATIONS[version]:
            await connection.execute(sql.SQL(statement))
        await connection.execute(
            sql.SQL("INSERT INTO regate_vectors.schema_version VALUES ({})").format(sql.Placeholder()),
            [version + 1],
        )


async def _admit_role(connection: AsyncConnection[Any], extension_schema: str) -> None:
    await connection.execute(_MAKE_ROLE)
    for grant in (
        sql.SQL("GRANT USAGE, CREATE ON SCHEMA regate_vectors TO {}").format(_ROLE),
        sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA regate_vectors TO {}").format(
            _ROLE
        ),
        sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(extension_schema), _ROLE),
    ):
        await connection.execute(grant)


async def _row(connection: AsyncConnection[Any], query: sql.SQL) -> tuple[Any, ...]:
    row = await (await connection.execute(query)).fetchone()
    assert row is not None  # noqa: S101 — each of these queries has exactly one row
    return tuple(row)
