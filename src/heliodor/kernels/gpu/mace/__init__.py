"""MACE on GPUs."""
