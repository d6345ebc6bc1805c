"""The grounded oracle: it also sees the scene, and a false sentence is never sufficient."""

import importlib

# Imported by name: the playground is built on this package, so this package cannot depend on it.
JUDGE = importlib.import_module("p2r.playground.oracle").GroundedJudge
