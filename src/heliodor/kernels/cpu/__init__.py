"""Kernels for CPUs, compiled by Numba when first used: no compiler is needed on the user's machine."""
