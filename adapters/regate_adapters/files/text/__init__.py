"""The text of files, by their formats (`formats.py`). All of it runs in a reader, under its limits and
in its confinement.
"""
