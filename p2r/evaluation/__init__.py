"""Evaluation: benchmarks, official and robust scores, result files, comparison and report."""
