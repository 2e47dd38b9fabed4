"""Preconditioners without learning and without leaves: identity, Jacobi, IC(0), multigrid, AMG and a direct
solver.
"""
