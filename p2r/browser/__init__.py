"""The case browser: its pages, its server routes and its static files."""
