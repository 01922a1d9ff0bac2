"""Files: their bytes (`disk.py`, `s3.py`), and their text, taken out by a process of its own (`extract.py` starts `worker.py`)."""
