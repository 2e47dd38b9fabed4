"""Exact leaves and a Galerkin coarse space: block Jacobi, bases, the coarse operator and its solve, the
balanced form."""
