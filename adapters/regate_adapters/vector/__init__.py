"""Vector engines: Chroma (`chroma.py`, `chroma_server.py`), PostgreSQL (`pgvector.py`), and the reference in memory. All pass `testing.vector`."""
