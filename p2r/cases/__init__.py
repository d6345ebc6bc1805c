"""Stored cases: files, tables, selections, text search, labels, agreement, exports."""
