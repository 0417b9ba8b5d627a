"""One file per format: its frames, and what it says of the run."""
