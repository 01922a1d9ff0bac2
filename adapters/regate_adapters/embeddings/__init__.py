"""Embedders: the small model that ships with Regate (`wordllama.py`), one of an upstream
(`upstream.py`), and a cache before either.
"""
