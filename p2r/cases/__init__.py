"""Cases at rest: their files, table and text index; selections, labels, exports."""
