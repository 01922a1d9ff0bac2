"""The vector store on Oracle AI Vector Search."""
