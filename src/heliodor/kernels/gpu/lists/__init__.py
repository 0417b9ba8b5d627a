"""Neighbour lists on GPUs."""
