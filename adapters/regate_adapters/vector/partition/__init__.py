"""Chunks in memory, searched there: exact, filtered before anything is ranked, and by words as well."""
