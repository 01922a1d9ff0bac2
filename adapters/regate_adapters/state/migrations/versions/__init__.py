"""One module a migration; the docstring of the folder above says how to add one."""
