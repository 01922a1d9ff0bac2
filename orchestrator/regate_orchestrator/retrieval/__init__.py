"""Retrieval: the store decision, the search with the filter inside it, and the admission of every
chunk found (`search.py`).
"""
