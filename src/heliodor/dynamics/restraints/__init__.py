"""Energies that hold distances, angles, dihedrals and positions; atoms that do not move."""
