"""Logs, metrics, and what the edge adds to audit records."""
