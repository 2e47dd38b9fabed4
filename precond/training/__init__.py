"""How the networks are trained: objectives, data, the loop and its checkpoints."""
