"""The OpenAPI document that the gateway serves: operations and schemas in YAML, put together by
`document.py`.
"""
