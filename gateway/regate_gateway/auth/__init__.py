"""Who is calling: tokens, and the principal that the policy makes of their claims."""
