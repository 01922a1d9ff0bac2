"""Identity: bearer tokens become verified claims here. What the claims mean is the policy's business
(`regate.authn.principal`).
"""
