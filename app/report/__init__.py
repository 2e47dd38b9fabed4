"""RESULTS.md: measured results read back, pivoted and drawn."""
