"""Vectors in memory, lost at exit: the reference for the other engines."""
