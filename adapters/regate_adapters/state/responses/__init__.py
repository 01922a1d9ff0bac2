"""The part of the state store that holds what was said: responses, conversations, prompts, and what
they rest on.
"""
