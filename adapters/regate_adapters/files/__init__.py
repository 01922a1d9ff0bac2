"""Files: their bytes (`disk.py`, `s3.py`), and their text, by a process for each (`extract.py` asks, `fork_server.py` forks, `worker.py` reads)."""
