"""Chroma, embedded or as a server: the store, its filter, and how chunks are laid out in collections."""
