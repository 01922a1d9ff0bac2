"""Files: their bytes (`files/blobs/disk.py`, `files/blobs/s3.py`,
`files/blobs/gcs.py`), and their text, by a process for each
(`files/readers/extract.py` asks, `files/readers/fork_server.py` forks, `files/readers/worker.py` reads).
"""
