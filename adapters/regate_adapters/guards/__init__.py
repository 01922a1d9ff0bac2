"""Guards: providers that look at texts, here or at an endpoint, and say what they found."""
