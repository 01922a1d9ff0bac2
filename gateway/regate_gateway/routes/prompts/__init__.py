"""`/v1/prompts`, and their use in requests."""
