"""One HTML page about a run, or several side by side."""
