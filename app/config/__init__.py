"""Options of the commands: what may be asked for, and how flags and YAML files are read."""
