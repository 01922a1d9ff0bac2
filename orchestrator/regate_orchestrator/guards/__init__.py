"""Guards: texts that others look at before they go further, and what the policy makes of what they found."""
