"""Files at rest: atomic writes, JSON, journals, media paths and safe text."""
