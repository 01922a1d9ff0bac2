"""The demonstration: a small backend that answers from its prompt, and two fictional tenants' documents."""
