"""The context of a turn: what it may be made from, decided before the first call of the model and
before each further one.
"""
