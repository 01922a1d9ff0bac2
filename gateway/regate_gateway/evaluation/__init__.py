"""What `regate eval` measures of a running gateway: `run.py`, over HTTP and with a token of each tenant. What
it found is `figures.py`, and docs/evaluation.md says what the figures mean.
"""
