"""Benchmarks: measured side by side in one run, with the machine's noise stated. Nothing here is
asserted; `make bench` prints.
"""
