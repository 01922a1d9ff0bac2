"""Export: every audit record to other systems, at least once and in order, read from the segments in the
background. `exporter.py` does it; a destination is one module each.
"""
