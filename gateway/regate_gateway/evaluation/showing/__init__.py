"""A report as people read it: Markdown, and a page with plots."""
