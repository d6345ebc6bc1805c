"""How frames are read: decoders, the process they run in, and its keeper."""
