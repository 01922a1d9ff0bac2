"""The parts of the state store that keep responses, conversations, prompts and idempotency keys."""
