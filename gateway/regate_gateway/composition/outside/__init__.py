"""What the gateway reaches outside, made of the settings: upstreams, guards, servers of tools, and the guard
before connections.
"""
