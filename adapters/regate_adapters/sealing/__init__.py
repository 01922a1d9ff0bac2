"""Sealing of what clients keep for us (`encrypted_content`): authenticated encryption under a key of
the deployment.
"""
