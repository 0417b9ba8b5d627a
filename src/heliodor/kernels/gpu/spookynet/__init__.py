"""SpookyNet on GPUs."""
