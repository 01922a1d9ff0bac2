"""Providers of web search, each a module: SearXNG, Brave, Tavily."""
