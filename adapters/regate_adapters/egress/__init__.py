"""Egress: the one way out to places that a client, a model or the operator names. `guard.py` lets out,
`transport.py` carries what is let out, `fetching.py` is for plain fetches.
"""
