"""Tools that run here, at the edge: what a request may hold of each kind, how it is taken over, and what
runs it. One module a kind; `registry.py` has them all.
"""
