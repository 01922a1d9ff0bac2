"""The conformance suite of vector stores (`suite.py`)."""
