"""Tools that run here: what a kind is (`tool.py`), the kinds (`kinds.py`), how a response makes calls
(`steps.py`), and how calls are decided and run (`calls.py`).
"""
