"""A managed OPA: our own child process, always running, always with the policies in force
(`composition/process.py`).
"""
