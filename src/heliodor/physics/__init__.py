"""Physical pair terms that stand beside the networks."""
