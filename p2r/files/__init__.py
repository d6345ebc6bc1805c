"""Files on disk: atomic writes, JSON lines, lenient JSON, journals, media paths, safe text."""
