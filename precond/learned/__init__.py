"""Preconditioners that a network predicts: features, the transformer with its highways, the learned coarse
space, the hierarchical matrix with its factors, neural SPAI, and weights on disk.
"""

from pathlib import Path

MODELS = Path(__file__).resolve().parents[2] / "assets" / "models"  # the weights that come with the program
