"""What an upstream streams, as the machine's events (`chat_events.py`), or passed through (`passing.py`)."""
