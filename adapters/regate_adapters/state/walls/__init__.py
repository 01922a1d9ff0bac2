"""The second wall in PostgreSQL: row-level security, which keeps a transaction to the tenant that it names
whatever its statements say.
"""
