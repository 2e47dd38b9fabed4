"""The simulation's loops in Taichi, for CUDA."""
