"""Qdrant: marked rows as points of one collection for each length of vector."""
