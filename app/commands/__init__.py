"""One file each: train, ablate, spectra, validate, device_work, and thumbnails, which `make` draws."""
