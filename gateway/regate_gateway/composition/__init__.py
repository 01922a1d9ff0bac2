"""Composition: settings become adapters, adapters become services. Nothing else names concrete adapters."""
