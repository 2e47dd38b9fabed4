"""Systems to solve: the published benchmark with its conditions, and families that it does not cover."""
