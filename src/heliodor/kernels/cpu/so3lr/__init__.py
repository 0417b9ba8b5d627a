"""SO3LR on CPUs."""
