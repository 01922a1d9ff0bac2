"""OPA: obtained (`install`), fed (`bundle`), run (`process`) and asked (`engine`, through `client`); its
residuals read (`ast`, `residual`).

Nothing here decides. The enforcer in the core is the counterpart: it alone reads an answer as an allow.
"""
