"""The benchmark: the same problems through every method, our own and those of other libraries."""
