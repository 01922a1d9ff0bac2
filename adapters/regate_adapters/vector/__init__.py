"""Vector engines, a folder each; `registry.py` lists their kinds, and `kind.py` says what a kind is. All pass
`testing.vector`.
"""
