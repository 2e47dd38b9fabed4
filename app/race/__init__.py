"""Solvers competing on one frame's system, in a process of their own; nothing here knows the window."""
