"""PostgreSQL with pgvector: the store, its filter, its schema."""
