"""Data sets: check, export and publish them, with cards."""
