"""Filters as SQL: the filter algebra over stored rows (`row_filter.py`), in the JSON functions of
either database.
"""
