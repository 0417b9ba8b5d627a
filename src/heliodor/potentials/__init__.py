"""Published architectures in plain PyTorch: the truth every kernel is tested against."""
