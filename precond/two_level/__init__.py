"""Exact leaves and a Galerkin coarse space: bases, the coarse operator and its solve, the preconditioner."""
