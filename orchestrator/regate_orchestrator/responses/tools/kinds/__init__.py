"""The kinds of tools that run here: what each is, and what runs it, where that needs nothing from outside."""
