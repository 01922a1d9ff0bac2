"""Vectors in a SQLite file, searched in memory: exact, filtered inside, and by words as well."""
