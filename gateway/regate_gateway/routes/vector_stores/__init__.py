"""`/v1/vector_stores`, and the files in them."""
