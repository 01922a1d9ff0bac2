"""A lean HTTP/1.1 client for the places that requests go to most: OPA, the upstreams, and vector engines."""
