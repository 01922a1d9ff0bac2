"""The filter algebra: which rows a principal may see, as a value (`expression.py`), and what it means
(`evaluate.py`).
"""
