"""The parts of the state store that keep files, vector stores, and what is in them."""
