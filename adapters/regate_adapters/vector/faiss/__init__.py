"""The local engine's tables, with the vectors compared by FAISS."""
