"""Counting what callers spend: one module per place where the counts are kept."""
