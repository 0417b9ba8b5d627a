"""SO3LR on GPUs."""
