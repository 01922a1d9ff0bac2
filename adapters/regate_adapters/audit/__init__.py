"""Audit: the append-only record of decisions and data accesses, on a local disk. `audit log.py`
implements the port, `reading.py` is for operators.
"""
