"""Maintenance: what runs without a request: garbage collection, and which gateways share the work."""
