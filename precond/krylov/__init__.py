"""Preconditioned conjugate gradients: the method and its outcomes, its loop on a CPU and its loop on a CUDA
device."""
