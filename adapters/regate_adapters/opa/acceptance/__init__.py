"""What must be true of policies before they serve, beside OPA's own check of them: found in their syntax
trees, told with rule and line.

`reading` makes the trees, `syntax` says what is in them and `reach` which rules a filter is made of. `rows`
holds what a filter can say of a row, `certainty` what may go wrong in what is known, which OPA keeps to
itself under a negation. `controls` finds what a policy asks for and the gateway does not do. `judging` puts
them together; whoever loads policies calls it (`opa/policies/bundle.py`, `opa/policies/signed.py`,
`opa/policies/remote.py`).
"""
