"""Benchmarks' files, official and tolerant scores, result files, comparisons, paper's tables."""
