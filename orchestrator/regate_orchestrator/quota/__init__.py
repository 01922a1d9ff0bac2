"""Quota: what a caller may spend and store, as the policy says, and what is counted against it."""
