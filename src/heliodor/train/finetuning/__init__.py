"""Going on from a trained model: what is trained, adapters, replay, and what was forgotten."""
