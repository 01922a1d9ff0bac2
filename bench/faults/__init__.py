"""The fault table: everything that the gateway stands on is broken in turn, under load, and what came of it is counted.

`world.py` starts what there is, `catalogue.py` says what is broken and how, `clients.py` is the load, `watching.py`
looks at every answer, `trial.py` breaks one thing and measures, `table.py` writes what was found.
"""
