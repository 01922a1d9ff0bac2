"""Files: their bytes (`disk.py`), and their text, taken out by a process of its own (`extract.py` starts `worker.py`)."""
