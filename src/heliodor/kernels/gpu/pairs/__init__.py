"""Pair terms on GPUs: long range, repulsion, D4."""
