"""The simulation's loops compiled for the CPU by numba: row by row and without branches where all cells take
the same way, so that a compiler uses vectors. The kernels of the same names in sim/device are their
reference, in Taichi, which runs them on CUDA; Taichi's CPU code loads every array's address anew for every
cell and uses no vectors.
"""
