"""HTTP: the server, what stands before every route, and how bodies, fields and errors are read and
written.
"""
