"""Documents: how a file comes in, gets into a store and becomes chunks, and how it goes."""
