"""A lean HTTP/1.1 client for the two places that every request goes to: OPA and the upstreams."""
