"""The Responses loop: `machine.advance(state, event) -> (state, commands)` is pure; `driver.run` performs the
commands.

`events.py` and `commands.py` are its two vocabularies. `items.py` reads the client's input items, `prompt.py`
turns items into chat messages, `stream.py` builds the events the client sees, and
`responses/output/citations.py` finds the markers in what the model writes.
"""
