"""What a preconditioner does to a matrix: spectra, and the norms and ranks of its tiles."""
