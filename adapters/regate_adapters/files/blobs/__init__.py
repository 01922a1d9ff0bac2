"""The bytes of files: on a disk (`disk.py`), or in S3-compatible storage (`s3.py`)."""
