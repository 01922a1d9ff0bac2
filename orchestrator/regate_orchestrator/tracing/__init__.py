"""Traces, as the core tells them. Not who listens: `regate_adapters.tracing`."""
