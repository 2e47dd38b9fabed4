"""The leaf hierarchy: leaves of 4 x 4 cells, blocks of 2 x 2 leaves, blocks of 2 x 2 of those and so on up to
one block; on every level exact inverses of the blocks and a coarse space of as many columns as each needs.
"""
