"""Ablation studies: variants of a training, several seeds, one table."""
