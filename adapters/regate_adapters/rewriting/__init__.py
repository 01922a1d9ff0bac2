"""Queries of searches, rewritten by a model of an upstream."""
