"""Making systems: from PDB files, sequences, SMILES and recipes to structures that can be simulated."""
