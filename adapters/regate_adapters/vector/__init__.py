"""Vector engines: Chroma (`vector/chroma/store.py`, `vector/chroma/server.py`), PostgreSQL
(`vector/pgvector/store.py`), and the reference in memory. All pass `testing.vector`.
"""
