"""Tools that the client runs: what a model is offered of them, the items of their calls, and the items of
their outputs.
"""
