"""Black box multigrid: the V-cycle, one level, and the transfer between two levels."""
