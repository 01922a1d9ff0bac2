"""Calls of models, and what is told of them."""
