"""Apps built on the library: the case browser."""
