"""Readers of official model files; none of them executes anything it reads."""
