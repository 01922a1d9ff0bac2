"""The command `regate`: `main.py`, and a module for each group of commands. Policy commands are in
`workbench/`.
"""
