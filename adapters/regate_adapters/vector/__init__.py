"""Vector engines: Chroma embedded (`chroma.py`), and the reference implementation in memory. Both pass `regate_adapters.testing.vector`."""
