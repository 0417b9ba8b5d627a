"""A training run from one YAML file."""
