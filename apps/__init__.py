"""Apps over the library: the case browser."""
