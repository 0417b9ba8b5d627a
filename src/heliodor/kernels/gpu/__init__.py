"""Kernels in Triton: one program an atom, a padded neighbour matrix, no atomics, no graph."""
