"""The local engine's tables, with the vectors compared by sqlite-vec inside SQLite."""
