"""What runs on a GPU: captured graphs, loops inside them, the state that they share, and the fused operations
with their Triton kernels.
"""
