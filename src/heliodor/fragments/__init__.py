"""Pieces of large molecules small enough for quantum chemistry, from the bonds up and from snapshots down."""
