"""Traces, by the OpenTelemetry SDK, exported by OTLP over HTTP. Imported only where traces are configured;
`settings.py` alone is always.
"""
