"""The routes, one file a resource. Handlers take a `Call` and return a response; `app.py` holds the table."""
