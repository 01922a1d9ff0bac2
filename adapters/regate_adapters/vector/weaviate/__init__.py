"""Weaviate: rows of one store in one tenant of a collection for each length of vectors."""
