"""Policies on their way into force: found whole, vetted, and packed as a bundle."""
