"""Milvus: marked rows as entities of one collection for each length of vector."""
