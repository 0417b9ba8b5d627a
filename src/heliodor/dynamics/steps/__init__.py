"""Step functions: state -> state, one algorithm a file, and the pressure that barostats work with."""
