"""Labelled structures, and fitting models to them."""
