"""The kinds of judges: one file each, named as the kind.

A file defines a subclass of `p2r.judges.BaseJudge` and sets `JUDGE` to it. Recipes then name it:
`judge: FILE` or `judge: FILE:TEXT`. See `BaseJudge.form`, `read_spec` and `make` for settings.
"""
