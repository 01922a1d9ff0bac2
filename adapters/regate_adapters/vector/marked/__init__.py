"""A `VectorStore` made of an engine that can tell rows apart by short strings alone."""
