"""Configuration: everything an operator may set, and where it comes from."""
