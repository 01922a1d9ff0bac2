"""MCP servers, through the official SDK: their tools listed and called. `client.py` is the port's
implementation; the SDK is imported by what it imports at the first use.
"""
