"""Adapters: one folder for each outside thing, each implementing a port of
`regate_orchestrator.ports`. They never call each other.
"""
