"""Pre-training of the tiny models of the second world."""
