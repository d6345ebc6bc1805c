"""The playground: a synthetic video world, its questions, its judge and the tiny models."""
