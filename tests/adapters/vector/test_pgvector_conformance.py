"""The store on PostgreSQL keeps the contract without exemption: on both versions, with its own exact
ranking and with the index's proposals.
"""

from __future__ import annotations

import pytest
from tests.postgres import Postgres

from regate_adapters.testing.vector.suite import SCHEMA, Check, vector_store_conformance
from regate_adapters.vector.pgvector.store import PgVectorStore

CHECKS = vector_store_conformance()
QUICK = [check for check in CHECKS if "atom" not in str(check)]
"""The atoms take long, and are filters alike."""


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_pgvector_keeps_the_contract_without_exemption(check: Check, pgvector: PgVectorStore) -> None:
    await check(pgvector, exempt={})


@pytest.mark.parametrize("check", QUICK, ids=str)
async def test_pgvector_keeps_the_contract_as_a_plain_user(
    check: Check, postgres: Postgres, plain_database: str
) -> None:
    async with PgVectorStore(postgres.url(plain_database, user="plain"), SCHEMA) as store:
        await check(store, exempt={})


# An approximate index cannot promise the one on foreign chunks, which is why exact search is the default.
@pytest.mark.parametrize("check", [check for check in QUICK if "foreign" not in str(check)], ids=str)
async def test_pgvector_keeps_the_contract_when_its_index_chooses_the_candidates(
    check: Check, postgres: Postgres, database: str
) -> None:
    async with PgVectorStore(postgres.url(database), SCHEMA, exact_below=0) as store:
        await check(store, exempt={})
