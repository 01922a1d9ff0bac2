"""Quotas at the edge: refusals and headers, and what answers that pass through cost."""
