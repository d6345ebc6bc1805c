"""The second generation of the playground: a world in which the answer needs the observation."""
