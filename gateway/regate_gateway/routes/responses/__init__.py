"""`/v1/responses`, over HTTP and a WebSocket."""
