"""State: files, vector stores, attachments and responses in a SQL database. `store.py` implements
the port.
"""
