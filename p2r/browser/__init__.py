"""The case browser."""
