"""The commands that are one file each: train, ablate, spectra."""
