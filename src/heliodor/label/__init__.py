"""Energies, forces and densities of structures by quantum chemistry, one at a time or in campaigns of millions."""
