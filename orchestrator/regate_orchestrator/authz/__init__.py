"""Authorization: questions to the policy, singly and in batches, and how they are recorded.
`enforcer.py` alone asks (I1).
"""
