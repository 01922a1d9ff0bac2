"""Models that say how well passages answer a query."""
