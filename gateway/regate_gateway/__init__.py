"""The edge: server, middleware, routes, settings, errors and the command line. `composition/wiring.py`
alone names concrete adapters.
"""
