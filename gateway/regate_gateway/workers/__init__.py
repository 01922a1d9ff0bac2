"""`regate serve --workers N`: one supervisor with OPA, and N workers that serve at one address."""
