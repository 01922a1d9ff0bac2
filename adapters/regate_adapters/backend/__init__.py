"""Backends: connections to the configured upstreams, the models they serve, and their chat streams as
the machine's events.
"""
