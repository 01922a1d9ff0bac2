"""The output of a response: items and events, made of what the model says (`assembler.py`,
`emitter.py`) or of what is stored (`replay.py`).
"""
