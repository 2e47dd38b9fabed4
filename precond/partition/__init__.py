"""How the grid is cut: the Morton order, the leaves along it with their faces, and the tiles of the
hierarchical matrix."""
