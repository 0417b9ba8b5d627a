"""Watching over a run: breakdowns, bonds that change, doubts of the model."""
