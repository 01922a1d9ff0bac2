"""Policy work from the command line: what a security team does with its Rego before it ships. Nothing
here serves a request.
"""
