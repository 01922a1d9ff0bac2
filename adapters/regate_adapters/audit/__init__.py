"""Audit: the append-only record of decisions and data accesses, on a local disk. `spool.py` implements the port, `reading.py` is for operators."""
