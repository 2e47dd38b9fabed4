"""What runs on a GPU: captured graphs, loops inside them, fused operations with their Triton kernels."""
