"""Loops compiled for the CPU by numba: what torch would do in many passes over small arrays, in few. Each has
a torch form beside its caller, which the tests compare it with and which runs where numba is missing.
"""
