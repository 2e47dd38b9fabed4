"""The commands that are one file each: train, ablate, spectra, validate, device_work, and thumbnails for `make`."""
