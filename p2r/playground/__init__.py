"""The playground: a synthetic video world, its questions, its judge and the tiny models."""

SOURCE = "playground"  # the `source` of its questions
