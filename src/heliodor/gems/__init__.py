"""From a large molecule to its force field: fragments, labels, training, validation, dynamics, report."""
