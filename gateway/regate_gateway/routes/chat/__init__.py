"""What is passed on to an upstream: `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`,
`/v1/models`.
"""
