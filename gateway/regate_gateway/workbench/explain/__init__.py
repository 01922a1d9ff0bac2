"""`regate policy explain`: why a decision was made."""
