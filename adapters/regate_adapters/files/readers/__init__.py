"""Readers: a confined process for each file. `extract.py` asks, `fork_server.py` forks, `worker.py` reads."""
