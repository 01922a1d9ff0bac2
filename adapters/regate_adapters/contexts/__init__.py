"""Contexts of chunks, written by a model of an upstream."""
