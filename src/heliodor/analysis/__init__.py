"""Analysis: what trajectories and predictions mean."""
