"""MACE on CPUs."""
