"""The playground: a synthetic video world with exact truth, its oracle judge and two tiny models."""
