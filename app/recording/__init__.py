"""Recordings: every frame's report on disk, with what repeats the run."""
