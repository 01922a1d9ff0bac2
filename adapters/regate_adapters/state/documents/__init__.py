"""The part of the state store that holds documents: files, vector stores, and what is in which."""
