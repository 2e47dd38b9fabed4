"""Preconditioned conjugate gradients: the method, its outcomes, its loops on a CPU and on a CUDA device."""
