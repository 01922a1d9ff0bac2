"""The edge: server, middleware, routes, settings, errors and the command line. `composition/`
alone names concrete adapters.
"""
