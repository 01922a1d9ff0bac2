"""`regate policy check`: everything that can be known of policies before they serve."""
