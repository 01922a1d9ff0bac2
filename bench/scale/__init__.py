"""What grows with tenants, with what is stored and with time. `make scale`, or `python -m bench.scale stores`."""
