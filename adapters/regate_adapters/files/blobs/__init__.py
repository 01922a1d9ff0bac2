"""The bytes of files: on a disk (`disk.py`), in S3-compatible storage (`s3.py`), or in Google's
(`gcs.py`)."""
