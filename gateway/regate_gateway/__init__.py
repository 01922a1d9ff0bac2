"""The edge: server, middleware, routes, settings, errors and the command line. `wiring.py` alone names concrete adapters."""
