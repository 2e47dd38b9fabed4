"""Studies: variants of a training, several seeds, one table; a file of YAML says what, study.py does it."""
