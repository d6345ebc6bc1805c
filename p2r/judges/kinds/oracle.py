"""The oracle: a rule that judges observations of the playground's synthetic clips, for free."""

import importlib

# Imported by name: the playground is built on this package, so this package cannot depend on it.
JUDGE = importlib.import_module("p2r.playground.oracle").OracleJudge
