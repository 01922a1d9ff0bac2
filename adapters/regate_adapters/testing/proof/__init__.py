"""The proof that filter and decision agree on every store, for random policies: `python -m
regate_adapters.testing.proof.__main__`.
"""
