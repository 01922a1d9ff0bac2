"""The part of the state store that is about callers: their keys, what they used and have stored."""
