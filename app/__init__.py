"""What a person touches: command line, window, recorder, benchmark."""
